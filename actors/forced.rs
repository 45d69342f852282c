//! What became of the wish to begin a domain anew with one machine, and how the operator is told.

use std::fmt;
use std::path::PathBuf;

use rm_raft::{EntryId, Index};
use rm_store::Era;

use crate::report::{Member, Standing};

/// What became of the wish to begin the domain anew with one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forced {
    /// It was done.
    Begun(Box<Begun>),
    /// The machine is the only voter, so that there was nothing to do.
    Alone {
        /// Its name.
        machine: String,
        /// The era, as before.
        era: Era,
    },
    /// It was ignored: it was wished for on this data before.
    Spent {
        /// The data directory.
        directory: PathBuf,
        /// The era, as before.
        era: Era,
    },
    /// It was ignored: the era that was to end is not the present one.
    OtherEra {
        /// The data directory.
        directory: PathBuf,
        /// The era that was named.
        asked: Era,
        /// The era, as before.
        era: Era,
    },
}

/// An era of a domain that begins with one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The domain.
    pub domain: String,
    /// The machine's name.
    pub machine: String,
    /// Where its clients reach it.
    pub client: String,
    /// Its data directory.
    pub directory: PathBuf,
    /// The era that ended.
    pub before: Era,
    /// The era that begins.
    pub era: Era,
    /// The last entry that the machine had.
    pub last: EntryId,
    /// Up to where it knew the log to be committed.
    pub commit: Index,
    /// The entry behind, with the configuration.
    pub configured: EntryId,
    /// How the machine took part by its own log; none if that did not list it yet, or no more.
    pub standing: Option<Standing>,
    /// The members that are left out.
    pub left_out: Vec<Member>,
    /// Whether something of a snapshot had been received, which is dropped.
    pub dropped_snapshot: bool,
}

impl fmt::Display for Forced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Forced::Begun(begun) => begun.fmt(f),
            Forced::Alone { machine, era } => write!(
                f,
                "--force-new-domain changed nothing: {machine} is the only voter of its domain already (era {era})"
            ),
            Forced::Spent { directory, era } => write!(
                f,
                "--force-new-domain was ignored: it was given before to the data in {}, which is of era {era}, and works once. Take it out of \
                 the command line; or, if the majority of the present members is lost for good too, give --force-new-domain={era}",
                directory.display()
            ),
            Forced::OtherEra {
                directory,
                asked,
                era,
            } => write!(
                f,
                "--force-new-domain={asked} was ignored: the data in {} is of era {era}. Take it out of the command line; or, if the majority \
                 of the present members is lost for good, give --force-new-domain={era}",
                directory.display()
            ),
        }
    }
}

impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Begun {
            domain, machine, ..
        } = self;
        writeln!(
            f,
            "THE DOMAIN {domain} WAS BEGUN ANEW BY FORCE: {machine} is its only voter now\n"
        )?;
        writeln!(f, "  data        {}", self.directory.display())?;
        writeln!(
            f,
            "  last entry  index {} of term {}; behind it lies the new configuration, index {} of term {}",
            self.last.index, self.last.term, self.configured.index, self.configured.term
        )?;
        writeln!(f, "  era         {} (before: {})", self.era, self.before)?;
        writeln!(f, "  left out    {}\n", self.names(describe))?;
        writeln!(
            f,
            "  LOST is whatever the others acknowledged and {machine} never received. Nothing here can tell what that was."
        )?;
        match self.standing {
            Some(Standing::Voter) => {}
            Some(Standing::Learner) => writeln!(
                f,
                "  {machine} was a learner: no write ever waited for it, so that it may lack much that a voter would have."
            )?,
            Some(Standing::Leaving) => writeln!(
                f,
                "  {machine} was being removed: what came after that never reached it."
            )?,
            None => writeln!(
                f,
                "  {machine} was no member by the end of its own log: what came after that, or before it was admitted, it may lack."
            )?,
        }
        if self.last.index > self.commit {
            writeln!(
                f,
                "  KEPT are also entries {} to {}, which were not noted here as committed: among them may be writes of which clients were \
                 never told that they were done.",
                self.commit.next(),
                self.last.index
            )?;
        }
        if self.dropped_snapshot {
            writeln!(
                f,
                "  DROPPED is the part of a snapshot that was being received."
            )?;
        }
        writeln!(
            f,
            "\n  NEVER START {} AGAIN ON THEIR DATA. Should any still run, stop it now: if they are a majority they take \
             writes that {machine} will never have.\n",
            self.names(|member| member.name.clone())
        )?;
        writeln!(
            f,
            "  Next, for each machine that is to take part again, be its name a new one or that of an old one:"
        )?;
        writeln!(
            f,
            "    rmctl --endpoints {} member add NAME --peer HOST:PORT --client HOST:PORT",
            self.client
        )?;
        writeln!(
            f,
            "    raft-machine --config FILE --local NAME --join        on its host, with an empty data directory"
        )?;
        writeln!(
            f,
            "    rmctl --endpoints {} member promote NAME",
            self.client
        )?;
        write!(
            f,
            "\n  --force-new-domain has done its work on this data, and is ignored from now on: take it out of the command line."
        )
    }
}

impl Begun {
    /// Those who are left out, each as `told`.
    fn names(&self, told: impl Fn(&Member) -> String) -> String {
        let names: Vec<String> = self.left_out.iter().map(told).collect();
        names.join(", ")
    }
}

fn describe(member: &Member) -> String {
    let standing = match member.standing {
        Standing::Voter => "voter",
        Standing::Learner => "learner",
        Standing::Leaving => "leaving",
    };
    format!("{} ({standing}, {})", member.name, member.peer)
}
