//! What LogicCenter does with each message: one line each.

use actix::{Context, Handler};
use rm_raft::Input;

use super::LogicCenter;
use crate::machine::Derived;
use crate::message::{
    Attached, Change, Elapsed, EntriesRead, Flush, LoadedLog, PeerGone, Persisted, Poke, Propose,
    ReadLinearizable, Received, Transfer,
};

impl Handler<Propose> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: Propose, context: &mut Context<Self>) {
        self.enter(context);
        self.propose(message, context);
    }
}

impl Handler<Change> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: Change, context: &mut Context<Self>) {
        self.enter(context);
        self.change(message, context);
    }
}

impl Handler<ReadLinearizable> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: ReadLinearizable, context: &mut Context<Self>) {
        self.enter(context);
        self.read(message, context);
    }
}

impl Handler<Transfer> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: Transfer, context: &mut Context<Self>) {
        self.enter(context);
        self.transfer(message, context);
    }
}

impl Handler<Received> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: Received, context: &mut Context<Self>) {
        self.enter(context);
        self.received(message, context);
    }
}

impl Handler<PeerGone> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: PeerGone, context: &mut Context<Self>) {
        self.enter(context);
        self.step(Input::PeerGone(message.0), context);
    }
}

impl Handler<LoadedLog> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: LoadedLog, context: &mut Context<Self>) {
        self.enter(context);
        self.loaded_log(message, context);
    }
}

impl Handler<Attached> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: Attached, context: &mut Context<Self>) {
        self.enter(context);
        self.attached(message, context);
    }
}

impl Handler<Persisted> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: Persisted, context: &mut Context<Self>) {
        self.enter(context);
        self.persisted(message, context);
    }
}

impl Handler<EntriesRead> for LogicCenter {
    type Result = ();
    fn handle(&mut self, message: EntriesRead, context: &mut Context<Self>) {
        self.enter(context);
        self.entries_read(message, context);
    }
}

impl Handler<Elapsed> for LogicCenter {
    type Result = ();
    fn handle(&mut self, _: Elapsed, context: &mut Context<Self>) {
        self.enter(context);
        self.elapsed(context);
    }
}

impl Handler<Flush> for LogicCenter {
    type Result = ();
    fn handle(&mut self, _: Flush, _: &mut Context<Self>) {
        self.flush();
    }
}

impl Handler<Poke> for LogicCenter {
    type Result = ();
    fn handle(&mut self, _: Poke, context: &mut Context<Self>) {
        self.enter(context);
        self.machine.spawn_fault_future(context);
    }
}
