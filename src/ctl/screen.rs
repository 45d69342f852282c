//! What the demonstration shows: one picture of the machines, their actors and their writers, and the terminal that it
//! is drawn on.

use std::fmt::Write as _;
use std::io::{self, Stdout, Write};
use std::time::Duration;

use comfy_table::Table;
use crossterm::{cursor, execute, queue, style, terminal};

use crate::actor::recovery;
use crate::info::{Row, State};
use crate::output::{grid, human_bytes, human_duration, right_align};
use crate::proto::Actor;
use crate::writer::Count;

/// Everything that is shown at one moment.
pub(crate) struct Picture<'a> {
    /// The machines, as they or their absence tell.
    pub(crate) machines: &'a [Machine],
    /// What the writers have seen.
    pub(crate) count: Count,
    /// Acknowledged puts a second, of late.
    pub(crate) puts_per_second: f64,
    /// What happened, the newest last.
    pub(crate) events: &'a [String],
    /// How long it runs.
    pub(crate) elapsed: Duration,
    /// Where etcd's clients reach the machines, with commas between.
    pub(crate) endpoints: &'a str,
}

/// One machine at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// What it tells of itself.
    pub(crate) row: Row,
    /// The number of its process, while it runs.
    pub(crate) process: Option<u32>,
    /// Its actors; none when it does not answer.
    pub(crate) actors: Vec<Actor>,
}

impl Picture<'_> {
    /// The whole picture, for a terminal.
    pub(crate) fn draw(&self) -> String {
        let mut text = format!(
            "Raft Machine, three of them. Beside this: etcdctl --endpoints={} put key value\n",
            self.endpoints
        );
        let _ = writeln!(text, "{}", machines(self.machines).trim_fmt());
        let _ = writeln!(text, "{}", actors(self.machines).trim_fmt());
        let _ = writeln!(text, "{}", self.writers());
        for event in self.events {
            let _ = writeln!(text, "  {event}");
        }
        text.push_str("[k] kill a random actor   [K] kill -9 the leader's process   [q] quit");
        text
    }

    /// The picture in one line, for a log.
    pub(crate) fn line(&self) -> String {
        let mut leader = None;
        let (mut term, mut commit, mut reached, mut restarts) = (0, 0, 0, 0);
        for machine in self.machines {
            if let State::Reached(state) = &machine.row.state {
                reached += 1;
                (term, commit) = (term.max(state.term), commit.max(state.commit_index));
                if state.leads() {
                    leader = Some(machine.row.name.as_str());
                }
            }
            restarts += machine
                .actors
                .iter()
                .map(|actor| actor.restarts)
                .sum::<u64>();
        }
        format!(
            "{:>4}s  leader {}  term {term}  commit {commit}  {reached} of {} machines  {restarts} actors restarted  {}",
            self.elapsed.as_secs(),
            leader.unwrap_or("none"),
            self.machines.len(),
            self.writers(),
        )
    }

    fn writers(&self) -> String {
        format!(
            "{} puts acknowledged, {:.0}/s, {} failed, longest pause {} ms",
            self.count.acknowledged,
            self.puts_per_second,
            self.count.failed,
            self.count.longest_pause.as_millis(),
        )
    }
}

fn machines(machines: &[Machine]) -> Table {
    let mut table = grid([
        "machine", "clients", "process", "role", "term", "commit", "applied", "revision", "size",
        "up",
    ]);
    for machine in machines {
        let process = machine
            .process
            .map_or("none".to_owned(), |process| process.to_string());
        let mut cells = vec![
            machine.row.name.clone(),
            machine.row.client.clone(),
            process,
        ];
        match &machine.row.state {
            State::Reached(state) => cells.extend([
                state.role.clone(),
                state.term.to_string(),
                state.commit_index.to_string(),
                state.applied_index.to_string(),
                state.revision.to_string(),
                human_bytes(state.file_bytes),
                human_duration(state.uptime_ms),
            ]),
            State::Silent { error } => cells.push(error.clone()),
        }
        table.add_row(cells);
    }
    right_align(&mut table, &[2, 4, 5, 6, 7, 8, 9]);
    table
}

/// A row for each actor, a column for each machine.
fn actors(machines: &[Machine]) -> Table {
    let mut headings = vec!["actor"];
    headings.extend(machines.iter().map(|machine| machine.row.name.as_str()));
    let mut table = grid([]);
    table.set_header(headings);
    let named = machines.iter().max_by_key(|machine| machine.actors.len());
    for named in named.map_or(&[][..], |machine| &machine.actors) {
        let mut cells = vec![named.name.clone()];
        cells.extend(machines.iter().map(|machine| {
            let same = machine.actors.iter().find(|actor| actor.name == named.name);
            same.map_or_else(String::new, life)
        }));
        table.add_row(cells);
    }
    table
}

/// An actor in a few words: its state, which life this is, and how it came back.
fn life(actor: &Actor) -> String {
    let mut text = format!("{} #{}", actor.state, actor.incarnation);
    if !actor.last_failure.is_empty() {
        let kind = actor
            .last_failure
            .split([':', ' '])
            .next()
            .unwrap_or_default();
        let _ = write!(text, ", {kind}");
    }
    if let Some(recovery_us) = actor.recovery_us {
        let _ = write!(text, ", back in {}", recovery(recovery_us));
    }
    text
}

/// A terminal that is drawn on, and that is as it was when this is dropped.
pub(crate) struct Terminal {
    out: Stdout,
}

impl Terminal {
    /// Takes the terminal.
    pub(crate) fn take() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let mut terminal = Terminal { out: io::stdout() };
        execute!(terminal.out, terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(terminal)
    }

    /// Draws over what was drawn before, without a flicker.
    pub(crate) fn show(&mut self, text: &str) -> io::Result<()> {
        let (_, height) = terminal::size()?;
        queue!(self.out, cursor::MoveTo(0, 0))?;
        for (number, line) in text.lines().take(usize::from(height)).enumerate() {
            if number > 0 {
                queue!(self.out, style::Print("\r\n"))?;
            }
            queue!(
                self.out,
                style::Print(line),
                terminal::Clear(terminal::ClearType::UntilNewLine)
            )?;
        }
        queue!(
            self.out,
            terminal::Clear(terminal::ClearType::FromCursorDown)
        )?;
        self.out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no tidying.
        let _ = execute!(self.out, cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(machines: &[Machine]) -> Picture<'_> {
        Picture {
            machines,
            count: Count::new(),
            puts_per_second: 617.0,
            events: &[],
            elapsed: Duration::from_secs(2),
            endpoints: "127.0.0.1:1",
        }
    }

    fn silent() -> Machine {
        Machine {
            row: Row {
                name: "RM.02".to_owned(),
                client: "127.0.0.1:2".to_owned(),
                peer: "127.0.0.1:3".to_owned(),
                number: 2,
                state: State::Silent {
                    error: "connection refused".to_owned(),
                },
            },
            process: None,
            actors: Vec::new(),
        }
    }

    #[test]
    fn a_machine_that_is_gone_and_the_writers_are_shown() {
        let machines = [silent()];
        let shown = picture(&machines).draw();
        assert!(
            shown.contains("connection refused") && shown.contains("617/s"),
            "{shown}"
        );
        let line = picture(&machines).line();
        assert!(
            line.contains("leader none") && line.contains("0 of 1 machines"),
            "{line}"
        );
    }

    #[test]
    fn an_actor_that_came_back_says_from_what_and_how_soon() {
        let actor = Actor {
            state: "running".to_owned(),
            incarnation: 3,
            last_failure: "panic: struck".to_owned(),
            recovery_us: Some(812),
            ..Default::default()
        };
        assert_eq!(life(&actor), "running #3, panic, back in 812 us");
    }
}
