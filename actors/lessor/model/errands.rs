//! What is done for a lessor, each thing at some time: leases are looked up and read, and it hears of what has come.

use rm_raft::Term;
use rm_wire::{LeaseStanding, LessorBody};

use super::machine::{Asker, Heard, Look, News, Page, Wait};
use super::{EXTENSION_MS, IDS, World};
use crate::lessor::asking::Wish;
use crate::lessor::looking::Found;
use crate::lessor::reign::Sequel;

impl World {
    /// A holder asks a machine, which answers if it believes that it leads.
    pub(super) fn ask(&mut self, machine: usize, wish: Wish) {
        let count = self.rng.usize(1..6);
        let ids: Vec<i64> = (0..count).map(|_| self.rng.i64(0..=IDS)).collect();
        self.looks += 1;
        let asked = self.promises.moment(self.now_ms);
        let machine = &mut self.machines[machine];
        let Some(reign) = machine.counting.reign_mut() else {
            return;
        };
        if let Some(looking) = reign.look(wish, ids.clone()) {
            let look = Look {
                reign: reign.number,
                wish,
                ids,
                looking,
                asked,
                there: None,
                found: Vec::new(),
            };
            machine.looks.insert(self.looks, look);
        }
    }

    /// Looks leases up that were asked about, once a quorum has confirmed that the machine leads, if it does.
    pub(super) fn look_up(&mut self, number: usize) {
        let is_leader =
            self.leader == number && self.machines[number].leads_in == Some(Term(self.term));
        let is_confirmed = is_leader && !self.one_in(20);
        let unread = |(number, look): (&usize, &Look)| look.there.is_none().then_some(*number);
        let unread = self.machines[number].looks.iter().filter_map(unread).min();
        let Some(look) = unread else {
            return;
        };
        if is_confirmed {
            // It is answered once all is applied that was committed.
            self.apply_all(number);
        }
        let truth = self.truth.leases.iter();
        let truth = truth.map(|(id, lease)| (*id, lease.grant)).collect();
        let machine = &mut self.machines[number];
        let Some(pending) = machine.looks.get_mut(&look) else {
            return;
        };
        pending.there = Some(truth);
        let reign = pending.reign;
        if !is_confirmed {
            machine.heard.push(Heard::Found(reign, look, None));
            return;
        }
        let leases = machine.table.known(&pending.looking.asked());
        let Some(note) = pending.looking.notes_to_take_back(&leases) else {
            let found = Some(Found::settled(leases));
            machine.heard.push(Heard::Found(reign, look, found));
            return;
        };
        pending.found = leases;
        let asker = Asker {
            machine: number,
            life: machine.life,
            wait: Wait::Note(reign, look),
        };
        self.proposed.push((note, Some(asker)));
    }

    /// Reads a part of the leases, as the machine has applied them.
    pub(super) fn read(&mut self, number: usize) {
        let fails = self.one_in(20);
        let machine = &mut self.machines[number];
        if machine.applied < machine.shown {
            return;
        }
        if let Some((reign, Page { after, count })) = machine.pages.pop() {
            let page = (!fails).then(|| machine.table.after(after, count));
            machine.heard.push(Heard::Page(reign, page));
        }
    }

    /// A lessor hears of one thing.
    pub(super) fn hear(&mut self, number: usize) {
        let machine = &self.machines[number];
        let (answers, news) = (machine.heard.len(), machine.news.len());
        if answers + news == 0 {
            return;
        }
        match self.rng.usize(0..answers + news) {
            place if place < answers => self.hear_answer(number, place),
            _ => self.hear_news(number),
        }
    }

    fn hear_news(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        let now_ms = machine.clock(self.now_ms);
        match (machine.news.pop_front(), machine.counting.reign_mut()) {
            (Some(News::Changed(change)), Some(reign)) => reign.learn(&change, now_ms),
            (Some(News::Opened), _) => {
                machine.counting.begin_anew();
            }
            _ => {}
        }
    }

    fn hear_answer(&mut self, number: usize, place: usize) {
        let machine = &mut self.machines[number];
        let now_ms = machine.clock(self.now_ms);
        let leads_in = machine.leads_in;
        let sequel = match machine.heard.swap_remove(place) {
            Heard::Decided(reign, proposal, fate) => {
                let reign = machine.counting.present(reign, leads_in);
                reign.map(|reign| reign.decided(&proposal, &fate, now_ms))
            }
            Heard::Page(reign, leases) => {
                let reign = machine.counting.present(reign, leads_in);
                reign.map(|reign| reign.take_in(leases.as_deref(), now_ms))
            }
            Heard::Found(reign, look, found) => {
                let look = machine.looks.remove(&look).expect("it is found once");
                let reign = machine.counting.present(reign, leads_in);
                if let Some(reign) = reign {
                    let told = reign.settle(&look.looking, found, now_ms);
                    self.told(&look, &told.body);
                }
                None
            }
        };
        match sequel {
            Some(Sequel::Onward { .. }) => self.go_on(number),
            Some(Sequel::Over) => {
                self.given_up += 1;
                self.machines[number].counting.begin_anew();
            }
            Some(Sequel::Rests) | None => {}
        }
    }

    /// What holders are told of a look.
    fn told(&mut self, look: &Look, told: &LessorBody) {
        let LessorBody::Standing(standings) = told else {
            return;
        };
        assert_eq!(standings.len(), look.ids.len());
        let there = look.there.as_ref().expect("it was looked up");
        for (id, standing) in look.ids.iter().zip(standings) {
            match *standing {
                LeaseStanding::None => assert!(!there.contains_key(id), "{id} was there"),
                LeaseStanding::Unsettled => {}
                LeaseStanding::Held { ttl, left_ms } => {
                    let grant = there.get(id).expect("it was there");
                    let most_ms = ttl as u64 * 1_000 + EXTENSION_MS;
                    assert!(left_ms <= most_ms, "{left_ms} ms are left of {ttl} s");
                    if look.wish == Wish::Renew {
                        self.promises.renewed(*grant, look.asked);
                    }
                }
            }
        }
    }
}
