//! `rmctl demo`: three machines on this host, shown live while clients write and the visitor breaks things.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::actor::{self, How};
use crate::bench::seconds;
use crate::client::{Endpoint, Endpoints};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::neighbour;
use crate::observer::Observer;
use crate::output::print;
use crate::random::SplitMix64;
use crate::screen::{Picture, Terminal};
use crate::wish::{Wish, wishes};
use crate::writer::Writers;

/// How often the picture is drawn on a terminal.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// How long a look may wait for a machine's answer.
const LOOK_LIMIT: Duration = Duration::from_millis(400);
/// How long a put may take before the writer turns to another machine.
const PUT_LIMIT: Duration = Duration::from_secs(5);
/// How long the machines may take to elect their first leader.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a machine stays away after its process ended, so that one can see the others go on.
const AWAY: Duration = Duration::from_secs(2);
/// How many events are shown.
const EVENTS_SHOWN: usize = 6;

/// What `demo` may be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoFlags {
    /// End by itself after so long
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
}

/// Runs the demonstration until it is ended, then stops the machines and removes their folder.
///
/// # Errors
/// The machine's binary is missing, or a machine does not come up; its log's last lines are in the text.
pub(crate) async fn run(flags: DemoFlags) -> Result<()> {
    let binary = neighbour::find()?;
    let mut ended = Box::pin(end(flags.seconds)?);
    let mut demo = Demo::new(Cluster::start(binary)?);
    let result = tokio::select! {
        () = &mut ended => Ok(()),
        result = demo.go_through() => result,
    };
    demo.finish().await;
    result
}

/// Resolves when the time is up or somebody ends us.
fn end(after: Option<Duration>) -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).map_err(Error::io("cannot listen for signals"));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let time = async move {
        match after {
            Some(after) => sleep(after).await,
            None => std::future::pending().await,
        }
    };
    Ok(async move {
        tokio::select! {
            () = time => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// The demonstration under way.
struct Demo {
    cluster: Cluster,
    observer: Observer,
    started: Instant,
    writers: Option<Writers>,
    /// What was acknowledged at the last look, and when that was.
    before: (u64, Instant),
    events: Vec<String>,
    /// Machines to be started again, and when.
    away: Vec<(usize, Instant)>,
    random: SplitMix64,
}

impl Demo {
    fn new(cluster: Cluster) -> Self {
        let members = cluster.members();
        let list: Vec<Endpoint> = members.iter().map(|member| member.client.clone()).collect();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Demo {
            cluster,
            observer: Observer::new(Endpoints::plain(list, LOOK_LIMIT)),
            started: Instant::now(),
            writers: None,
            before: (0, Instant::now()),
            events: Vec::new(),
            away: Vec::new(),
            random: SplitMix64::new(now.map_or(0, |now| u64::from(now.subsec_nanos())), 0),
        }
    }

    async fn go_through(&mut self) -> Result<()> {
        print(format!("Endpoints: {}", self.addresses()).as_bytes())?;
        print(format!("Data and logs: {}", self.cluster.folder().display()).as_bytes())?;
        self.await_leader().await?;
        let endpoints = Endpoints {
            timeout: PUT_LIMIT,
            ..self.observer.endpoints.clone()
        };
        self.writers = Some(Writers::start(&endpoints));
        if io::stdout().is_terminal() && io::stdin().is_terminal() {
            self.live().await
        } else {
            self.log().await
        }
    }

    /// Waits until one of the machines leads.
    async fn await_leader(&mut self) -> Result<()> {
        while self.started.elapsed() < START_LIMIT {
            if let Some((number, status)) = self.cluster.ended().first() {
                let name = &self.cluster.members()[*number].name;
                let log = self.cluster.log_tail(*number);
                return Err(Error::Demo(format!("{name} ended with {status}:\n{log}")));
            }
            self.observer.look(self.cluster.members()).await;
            if self.observer.leader().is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        let log = self.cluster.log_tail(0);
        Err(Error::Demo(format!(
            "no leader after {} s; the last lines of the first machine's log:\n{log}",
            START_LIMIT.as_secs()
        )))
    }

    /// Draws the picture again and again and does what the visitor wishes.
    async fn live(&mut self) -> Result<()> {
        let broken = "cannot draw on the terminal";
        let mut terminal = Terminal::take().map_err(Error::io(broken))?;
        let mut wishes = wishes();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(Wish::KillActor) => self.kill_actor().await,
                    Some(Wish::KillLeader) => self.kill_leader(),
                    Some(Wish::Quit) | None => return Ok(()),
                },
                _ = looks.tick() => {}
            }
            self.mend()?;
            self.observer.look(self.cluster.members()).await;
            let text = self.picture(|picture| picture.draw());
            terminal.show(&text).map_err(Error::io(broken))?;
        }
    }

    /// Prints a line now and then.
    async fn log(&mut self) -> Result<()> {
        let mut looks = interval(LINE_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.mend()?;
            self.observer.look(self.cluster.members()).await;
            for event in std::mem::take(&mut self.events) {
                print(event.as_bytes())?;
            }
            let line = self.picture(|picture| picture.line());
            print(line.as_bytes())?;
        }
    }

    /// Lets a random actor of a random machine fail.
    async fn kill_actor(&mut self) {
        let standing = self.observer.actors();
        if standing.is_empty() {
            return self.tell("no actor answers: nothing to kill".to_owned());
        }
        let (number, name) = &standing[self.random.below(standing.len() as u64) as usize];
        let (how, word) = if self.random.below(2) == 0 {
            (How::Panic, "panicked")
        } else {
            (How::Stop, "stopped")
        };
        let endpoint = &self.observer.endpoints.list[*number];
        let killed = actor::kill(&self.observer.endpoints, endpoint, name, how).await;
        let machine = &self.cluster.members()[*number].name;
        self.tell(match killed {
            Ok(()) => format!("{name} of {machine} {word}"),
            Err(error) => error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        });
    }

    /// Ends the leader's process as `kill -9` does.
    fn kill_leader(&mut self) {
        let Some(number) = self.observer.leader() else {
            return self.tell("no leader: nobody to kill".to_owned());
        };
        self.cluster.kill(number);
        self.away.push((number, Instant::now() + AWAY));
        let name = &self.cluster.members()[number].name;
        self.tell(format!(
            "the leader {name} was killed; it comes back in {} s",
            AWAY.as_secs()
        ));
    }

    /// Starts machines again: those that ended by themselves, and those whose time away is over.
    fn mend(&mut self) -> Result<()> {
        for (number, status) in self.cluster.ended() {
            self.away.push((number, Instant::now() + AWAY));
            let name = &self.cluster.members()[number].name;
            self.tell(format!(
                "{name} ended with {status}; it comes back in {} s",
                AWAY.as_secs()
            ));
        }
        let now = Instant::now();
        let (due, away): (Vec<_>, Vec<_>) = std::mem::take(&mut self.away)
            .into_iter()
            .partition(|(_, at)| *at <= now);
        self.away = away;
        for (number, _) in due {
            self.cluster.start_machine(number)?;
            let name = &self.cluster.members()[number].name;
            self.tell(format!("{name} was started again"));
        }
        Ok(())
    }

    fn tell(&mut self, event: String) {
        let seconds = self.started.elapsed().as_secs();
        self.events.push(format!("{seconds:>4}s  {event}"));
        let old = self.events.len().saturating_sub(EVENTS_SHOWN);
        self.events.drain(..old);
    }

    fn picture(&mut self, show: impl FnOnce(&Picture<'_>) -> String) -> String {
        let Some(writers) = &self.writers else {
            return String::new();
        };
        let count = writers.count();
        let (acknowledged, at) = self.before;
        let seconds = at.elapsed().as_secs_f64().max(f64::EPSILON);
        let puts_per_second = (count.acknowledged - acknowledged) as f64 / seconds;
        self.before = (count.acknowledged, Instant::now());
        show(&Picture {
            machines: &self.observer.machines,
            count,
            puts_per_second,
            events: &self.events,
            elapsed: self.started.elapsed(),
            endpoints: &self.addresses(),
        })
    }

    fn addresses(&self) -> String {
        let list: Vec<_> = self
            .observer
            .endpoints
            .list
            .iter()
            .map(Endpoint::to_string)
            .collect();
        list.join(",")
    }

    /// Stops the writers, then the machines, and says what was seen.
    async fn finish(self) {
        let count = self.writers.as_ref().map(Writers::count);
        drop(self.writers);
        self.cluster.stop().await;
        if let Some(count) = count {
            // Whoever read the output may have gone; the demonstration is over all the same.
            let _ = print(
                format!(
                    "{} puts acknowledged, {} failed, longest pause {} ms. The machines are stopped, their folder is removed.",
                    count.acknowledged,
                    count.failed,
                    count.longest_pause.as_millis()
                )
                .as_bytes(),
            );
        }
    }
}
