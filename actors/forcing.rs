//! One machine becomes the only voter of its domain, for an operator who has lost the majority for good.
//!
//! It is done once on a data directory, before any actor starts: one commit of the log writes the configuration behind the last
//! entry and names the era that begins. To have it done once more, the operator names the era that is to end, so that a flag
//! which stays in a unit file does no harm to a domain that has grown again.

use std::path::PathBuf;

use rm_config::Effective;
use rm_raft::{Configuration, Configured, MachineId};
use rm_store::{DataDirectory, Era, Loaded, Log, Snapshots};
use slog::{Logger, crit, warn};

use crate::forced::{Begun, Forced};
use crate::members::{About, begun_with, listed};
use crate::report::Member;
use crate::resources::StartError;

/// Why a domain cannot be begun anew with this machine.
#[derive(Debug, thiserror::Error)]
pub enum ForceError {
    /// There is no data.
    #[error(
        "--force-new-domain goes on with the data of a machine that survived, and {} holds none: name that machine with --local, or \
         set data_dir to where its data lies. A machine without data begins a domain without the flag, and joins one with --join",
        directory.display()
    )]
    NoData {
        /// Where it should be.
        directory: PathBuf,
    },
    /// The log does not tell who takes part.
    #[error(
        "--force-new-domain cannot go on with the data in {}: {machine} was to join its domain and has received too little of the log \
         to know who takes part. Take the data of another machine, or begin a domain with an empty folder",
        directory.display()
    )]
    NothingReceived {
        /// The data directory.
        directory: PathBuf,
        /// The machine's name.
        machine: String,
    },
    /// The log says that the machine takes part no more.
    #[error(
        "--force-new-domain cannot go on with the data in {}: by its log {machine} was removed from its domain, and what came later \
         is not in it. Take the data of a machine that is a member",
        directory.display()
    )]
    Removed {
        /// The data directory.
        directory: PathBuf,
        /// The machine's name.
        machine: String,
    },
    /// No era can be drawn.
    #[error("the system has no random number to give for the new era: {0}")]
    Random(std::io::Error),
}

/// The wish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Force {
    /// The era that is to end; needed where it was wished for on this data before.
    pub(crate) era: Option<Era>,
}

/// Whose data it is, and who is known besides what the log tells.
pub(crate) struct Survivor<'a> {
    pub(crate) config: &'a Effective,
    pub(crate) directory: &'a DataDirectory,
    pub(crate) log: &'a Log,
    pub(crate) snapshots: &'a Snapshots,
    pub(crate) known: &'a [Member],
}

impl Survivor<'_> {
    /// Makes the machine the only voter, unless it is, or unless this was wished for before and the wish does not name the present era.
    ///
    /// # Errors
    /// [`ForceError`], and what the log and the folder of snapshots answer. Nothing is changed then, but that a snapshot may have to
    /// be received from its beginning.
    pub(crate) fn force(&self, wish: Force, logger: &Logger) -> Result<Forced, StartError> {
        let forced = self.decide(wish)?;
        match &forced {
            Forced::Begun(begun) => {
                let left_out: Vec<&str> = begun.left_out.iter().map(|it| &it.name[..]).collect();
                crit!(logger, "THE DOMAIN WAS BEGUN ANEW BY FORCE with this machine as its only voter: what the others acknowledged and this one \
                    never received is lost, and none of them may be started again on its data";
                    "data" => %begun.directory.display(), "last" => %begun.last, "known_commit" => begun.commit.0, "configured" => %begun.configured,
                    "era_before" => %begun.before, "era" => %begun.era, "left_out" => ?left_out, "was" => ?begun.standing);
            }
            other => warn!(logger, "{other}"),
        }
        Ok(forced)
    }

    fn decide(&self, wish: Force) -> Result<Forced, StartError> {
        let owner = self.directory.identity();
        let named = self.log.era()?;
        let era = named.unwrap_or(owner.era);
        let directory = self.directory.path().to_owned();
        match wish.era {
            Some(asked) if asked != era => {
                return Ok(Forced::OtherEra {
                    directory,
                    asked,
                    era,
                });
            }
            None if named.is_some() => return Ok(Forced::Spent { directory, era }),
            _ => {}
        }
        let loaded = self.log.load()?;
        let latest = self.latest(&loaded)?;
        if latest.voters == [owner.id] && !latest.is_joint() {
            if named.is_none() {
                let mut append = self.log.begin()?;
                append.keep_era(era);
                append.commit()?;
            }
            let machine = owner.machine;
            return Ok(Forced::Alone { machine, era });
        }
        let begun = self.begin(era, &loaded, &latest)?;
        Ok(Forced::Begun(Box::new(begun)))
    }

    /// The configuration in force by this machine's log.
    fn latest(&self, loaded: &Loaded) -> Result<Configuration, ForceError> {
        let owner = self.directory.identity();
        let (directory, machine) = (self.directory.path().to_owned(), owner.machine);
        let Some(latest) = loaded.configurations.last() else {
            return match owner.joined {
                Some(_) => Err(ForceError::NothingReceived { directory, machine }),
                None => Ok(begun_with(self.known)),
            };
        };
        if was_removed(owner.id, loaded) {
            return Err(ForceError::Removed { directory, machine });
        }
        Ok(latest.configuration.clone())
    }

    fn begin(
        &self,
        before: Era,
        loaded: &Loaded,
        latest: &Configuration,
    ) -> Result<Begun, StartError> {
        let owner = self.directory.identity();
        let here = self.config.local();
        let era = Era::random().map_err(ForceError::Random)?;
        // Others look for the machine where it is now, which may be another host than the one that the log tells of.
        let about = About {
            name: owner.machine.clone(),
            peer: here.peer.to_string(),
            client: here.client.to_string(),
            data_id: Some(self.directory.data_number().to_be_bytes()),
        };
        // It came from a leader that is of the past, and is of no use half.
        let dropped_snapshot = self.snapshots.discard_received()?;
        let mut append = self.log.begin()?;
        let configured = append.begin_era(era, owner.id, about.encode())?;
        append.commit()?;
        let (own, left_out): (Vec<Member>, Vec<Member>) = listed(latest, self.known)
            .into_iter()
            .partition(|member| member.machine == owner.id);
        Ok(Begun {
            domain: owner.domain,
            machine: owner.machine,
            client: about.client,
            directory: self.directory.path().to_owned(),
            before,
            era,
            last: loaded.last,
            commit: loaded.hard_state.commit,
            configured,
            standing: own.first().map(|member| member.standing),
            left_out,
            dropped_snapshot,
        })
    }
}

/// Whether a machine that took part does so no more, by what is committed. One whose log lists it nowhere has yet to receive
/// that; one whose removal may still fall back takes part.
fn was_removed(machine: MachineId, loaded: &Loaded) -> bool {
    let lists = |each: &Configured| each.configuration.contains(machine);
    let commit = loaded.hard_state.commit;
    let all = &loaded.configurations;
    let (committed, open) = all.split_at(all.partition_point(|each| each.index <= commit));
    match committed.split_last() {
        Some((in_force, before)) => {
            before.iter().any(lists) && !lists(in_force) && !open.iter().any(lists)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Standing;
    use rm_config::{Address, Config, Machine};
    use rm_raft::{Entry, EntryId, HardState, Index, Payload, Term};
    use rm_store::{
        Description, Environment, Identity, Neighbour, Options, SnapshotId, SnapshotOptions,
    };
    use slog::{Discard, o};
    use std::path::Path;
    use tempfile::TempDir;

    /// What a machine is started with and left behind.
    struct Left {
        config: Effective,
        directory: DataDirectory,
        log: Log,
        snapshots: Snapshots,
        known: Vec<Member>,
        _folder: TempDir,
    }

    fn address(port: u16) -> Address {
        format!("127.0.0.1:{port}").parse().expect("an address")
    }

    fn member(number: u64) -> Member {
        Member {
            machine: MachineId(number),
            name: format!("RM.{number:02}"),
            peer: format!("10.0.0.{number}:1"),
            client: format!("10.0.0.{number}:2"),
            standing: Standing::Voter,
            data_id: None,
        }
    }

    /// Voters, voters that leave, and learners.
    fn configuration(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Configuration {
        let ids = |numbers: &[u64]| numbers.iter().copied().map(MachineId).collect();
        let mut configuration = Configuration {
            voters: ids(voters),
            outgoing: ids(outgoing),
            learners: ids(learners),
            ..Configuration::default()
        };
        let about = |machine: MachineId| (machine, About::of(&member(machine.0)).encode());
        configuration.about = configuration.members().into_iter().map(about).collect();
        configuration
    }

    impl Left {
        /// The first machine with these configurations in its log, one an entry, the first `commit` of them committed.
        fn with(commit: u64, configurations: &[Configuration], joined: bool) -> Left {
            let folder = TempDir::new().expect("a folder");
            let machine = Machine {
                name: "RM.01".to_owned(),
                peer: address(7600),
                client: address(2379),
                metrics: None,
                priority: 0,
            };
            let mut config = Config::new("test.domain", vec![machine]);
            config.data_dir = folder.path().join("data");
            let config = Effective::new(config, Path::new("test.json"), None).expect("valid");
            let neighbours = [1, 2].map(|number| Neighbour {
                id: number,
                name: member(number).name,
                peer: member(number).peer,
                client: member(number).client,
            });
            let identity = Identity {
                domain: "test.domain".to_owned(),
                machine: "RM.01".to_owned(),
                id: MachineId(1),
                joined: joined.then(|| neighbours.to_vec()),
                era: Era::FIRST,
            };
            let directory = DataDirectory::open(config.data_dir(), &identity).expect("opens");
            let environment = Environment::open(&directory, "log", &Options::default());
            let log = Log::open(&environment.expect("opens")).expect("opens");
            let snapshots = Snapshots::open(&directory, SnapshotOptions::default());
            let left = Left {
                config,
                directory,
                log,
                snapshots: snapshots.expect("opens"),
                known: vec![member(1), member(2), member(3)],
                _folder: folder,
            };
            left.append(5, commit, configurations);
            left
        }

        fn append(&self, term: u64, commit: u64, configurations: &[Configuration]) {
            let mut append = self.log.begin().expect("begins");
            let first = append.last().index.0 + 1;
            let entry = |(index, configuration): (u64, &Configuration)| Entry {
                id: EntryId {
                    term: Term(term),
                    index: Index(index),
                },
                payload: Payload::Configuration {
                    request: None,
                    configuration: Box::new(configuration.clone()),
                },
            };
            let entries: Vec<Entry> = (first..).zip(configurations).map(entry).collect();
            let hard_state = HardState {
                term: Term(term),
                vote: None,
                commit: Index(commit),
            };
            append.persist(&hard_state, &entries).expect("in order");
            append.commit().expect("durable");
        }

        fn force(&self, era: Option<Era>) -> Result<Forced, StartError> {
            let survivor = Survivor {
                config: &self.config,
                directory: &self.directory,
                log: &self.log,
                snapshots: &self.snapshots,
                known: &self.known,
            };
            survivor.force(Force { era }, &Logger::root(Discard, o!()))
        }

        fn begun(&self, era: Option<Era>) -> Begun {
            match self.force(era).expect("it can be") {
                Forced::Begun(begun) => *begun,
                other => panic!("not begun: {other}"),
            }
        }

        fn latest(&self) -> Configuration {
            let mut configurations = self.log.load().expect("loads").configurations;
            configurations.pop().expect("there is one").configuration
        }
    }

    /// Begins the domain anew; who was left out, and how the machine took part.
    fn left_out(left: &Left) -> (Vec<u64>, Option<Standing>) {
        let begun = left.begun(None);
        let latest = left.latest();
        assert_eq!(latest.voters, [MachineId(1)]);
        assert_eq!(latest.members(), [MachineId(1)]);
        let told = listed(&latest, &[]).remove(0);
        assert_eq!(
            (&*told.peer, &*told.client),
            ("127.0.0.1:7600", "127.0.0.1:2379")
        );
        assert!(told.data_id.is_some());
        let numbers = begun.left_out.iter().map(|it| it.machine.0).collect();
        (numbers, begun.standing)
    }

    #[test]
    fn whatever_was_pending_the_machine_is_the_only_voter_and_the_others_are_out() {
        let all = configuration(&[1, 2, 3], &[], &[]);
        let pending = |next| Left::with(1, &[all.clone(), next], false);
        let voter = Some(Standing::Voter);
        assert_eq!(
            left_out(&Left::with(1, std::slice::from_ref(&all), false)),
            (vec![2, 3], voter)
        );
        let joint = configuration(&[1, 4, 5], &[1, 2, 3], &[6]);
        assert_eq!(left_out(&pending(joint)), (vec![2, 3, 4, 5, 6], voter));
        let learner = configuration(&[2, 3], &[], &[1]);
        let standing = Some(Standing::Learner);
        assert_eq!(left_out(&pending(learner)), (vec![2, 3], standing));
        let leaving = configuration(&[2, 3], &[1, 2, 3], &[]);
        let standing = Some(Standing::Leaving);
        assert_eq!(left_out(&pending(leaving)), (vec![2, 3], standing));
        let removal = configuration(&[2, 3], &[], &[]);
        assert_eq!(left_out(&pending(removal)), (vec![2, 3], None));
    }

    #[test]
    fn a_founder_whose_log_is_empty_begins_anew_without_the_others_of_its_file() {
        assert_eq!(
            left_out(&Left::with(0, &[], false)),
            (vec![2, 3], Some(Standing::Voter))
        );
    }

    #[test]
    fn a_machine_that_was_removed_or_has_received_nothing_is_refused() {
        let all = [
            configuration(&[1, 2, 3], &[], &[]),
            configuration(&[2, 3], &[], &[]),
        ];
        let left = Left::with(2, &all, false);
        let before = left.log.load().expect("loads");
        let refusal = left.force(None).expect_err("it was removed");
        assert!(
            matches!(refusal, StartError::Force(ForceError::Removed { .. })),
            "{refusal}"
        );
        assert_eq!(left.log.load().expect("loads"), before);
        let refusal = Left::with(0, &[], true)
            .force(None)
            .expect_err("it has nothing");
        let expected = matches!(
            refusal,
            StartError::Force(ForceError::NothingReceived { .. })
        );
        assert!(expected, "{refusal}");
    }

    #[test]
    fn it_is_done_once_and_again_only_for_the_era_that_is_named() {
        let left = Left::with(1, &[configuration(&[1, 2, 3], &[], &[])], false);
        let first = left.begun(None);
        assert_eq!(
            (first.before, first.configured.index),
            (Era::FIRST, Index(2))
        );
        // The domain has grown again, and the flag was forgotten in a unit file.
        let grown = configuration(&[1, 7], &[], &[]);
        left.append(9, 3, std::slice::from_ref(&grown));
        for wish in [None, Some(Era::FIRST), Some(Era(1))] {
            let forced = left.force(wish).expect("it is ignored");
            assert!(forced.to_string().contains("ignored"), "{forced}");
            assert!(
                forced.to_string().contains(&first.era.to_string()),
                "{forced}"
            );
            assert_eq!(left.latest(), grown, "nothing is changed");
        }
        let second = left.begun(Some(first.era));
        assert_eq!(second.before, first.era);
        assert_ne!(second.era, first.era);
        assert_eq!(left.log.era().expect("reads"), Some(second.era));
    }

    #[test]
    fn the_only_voter_is_left_alone_and_so_it_is_after_its_domain_has_grown() {
        let alone = configuration(&[1], &[], &[2]);
        let left = Left::with(1, std::slice::from_ref(&alone), false);
        let forced = left.force(None).expect("nothing is to be done");
        assert!(
            matches!(
                forced,
                Forced::Alone {
                    era: Era::FIRST,
                    ..
                }
            ),
            "{forced}"
        );
        assert_eq!(left.latest(), alone);
        let grown = configuration(&[1, 2], &[], &[]);
        left.append(9, 2, std::slice::from_ref(&grown));
        let forced = left.force(None).expect("it is ignored");
        assert!(matches!(forced, Forced::Spent { .. }), "{forced}");
        assert_eq!(left.latest(), grown);
        left.begun(Some(Era::FIRST));
    }

    #[test]
    fn the_warning_names_all_that_an_operator_must_know() {
        let all = configuration(&[1, 2, 3], &[], &[4]);
        let left = Left::with(1, &[all.clone(), all.clone(), all], false);
        let description = Description {
            id: SnapshotId([7; 32]),
            bytes: 4096,
        };
        drop(left.snapshots.receive(description).expect("begins"));
        let begun = left.begun(None);
        assert!(begun.dropped_snapshot);
        assert!(
            !left.snapshots.discard_received().expect("looks"),
            "nothing is left"
        );
        let text = begun.to_string();
        let era = begun.era.to_string();
        for part in [
            "test.domain",
            &left.directory.path().display().to_string(),
            "index 3 of term 5",
            "index 4 of term 6",
            &era,
            "RM.02 (voter, 10.0.0.2:1), RM.03 (voter, 10.0.0.3:1), RM.04 (learner, 10.0.0.4:1)",
            "LOST",
            "entries 2 to 3",
            "DROPPED",
            "NEVER START RM.02, RM.03, RM.04 AGAIN",
            "rmctl --endpoints 127.0.0.1:2379 member add",
            "--join",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
