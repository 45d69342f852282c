//! The network between the machines: ordered connections that break, and datagrams that are lost, doubled and overtaken.

use rm_raft::Body;

use super::random::Random;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In a connection, in order: lost only with all that follows, when the connection breaks.
    Connection(u32),
    /// Alone.
    Datagram,
}

/// One direction between two machines.
#[derive(Debug)]
struct Link {
    /// Counts the connections.
    connection: u32,
    /// When the last message of the connection arrives.
    arrives: u64,
    cut: bool,
    random: Random,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    machines: usize,
    links: Vec<Link>,
    /// The least that a message takes, in microseconds.
    latency: u64,
    /// How many of a thousand packets are lost.
    loss: u64,
    /// Whether everything may overtake everything.
    wild: bool,
    /// Whether packets may still go astray for a long time.
    strays: bool,
}

impl Network {
    pub(crate) fn new(machines: usize, seed: u64, wild: bool) -> Network {
        let link = |number: usize| Link {
            connection: 0,
            arrives: 0,
            cut: false,
            random: Random::new(seed, 1_000 + number as u64),
        };
        Network {
            machines,
            links: (0..machines * machines).map(link).collect(),
            latency: 50,
            loss: 0,
            wild,
            strays: true,
        }
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.machines + to]
    }

    /// When a message arrives, perhaps more than once, perhaps never; and how it travels.
    pub(crate) fn send(
        &mut self,
        now: u64,
        from: usize,
        to: usize,
        body: &Body,
    ) -> (Vec<u64>, Way) {
        let (latency, loss) = (self.latency, self.loss);
        let (wild, strays) = (self.wild, self.strays);
        let link = self.link(from, to);
        let delay = latency + link.random.below(latency + 200);
        // A message that may be repeated without harm; proposals may not, and travel only in connections.
        let alone = may_overtake(body)
            || (wild && !matches!(body, Body::Propose { .. } | Body::ProposeChange { .. }));
        if !alone {
            // What is lost is sent again, and holds up all that follows.
            let again = if link.random.chance(loss) { 30_000 } else { 0 };
            link.arrives = link.arrives.max(now + delay + again);
            return (vec![link.arrives], Way::Connection(link.connection));
        }
        let mut arrivals = Vec::new();
        if !link.random.chance(loss) {
            let astray = if strays && link.random.chance(20) {
                link.random.pick(&[50_000, 300_000, 2_000_000])
            } else {
                0
            };
            arrivals.push(now + delay + link.random.below(astray));
        }
        if link.random.chance(loss) {
            arrivals.push(now + delay + link.random.below(50_000));
        }
        (arrivals, Way::Datagram)
    }

    /// Whether what travelled so arrives.
    pub(crate) fn arrives(&mut self, from: usize, to: usize, way: Way) -> bool {
        let link = self.link(from, to);
        match way {
            Way::Datagram => !link.cut,
            Way::Connection(connection) => {
                let arrives = connection == link.connection && !link.cut;
                if link.cut {
                    link.connection += 1;
                }
                arrives
            }
        }
    }

    /// Whether anything passes from one to the other.
    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        !self.links[from * self.machines + to].cut
    }

    /// What is on its way in the connection of two machines is lost.
    pub(crate) fn reset(&mut self, from: usize, to: usize) {
        self.link(from, to).connection += 1;
    }

    /// All connections to a machine break.
    pub(crate) fn reset_all_to(&mut self, to: usize) {
        for from in 0..self.machines {
            self.reset(from, to);
        }
    }

    /// All connections from a machine break.
    pub(crate) fn reset_all_from(&mut self, from: usize) {
        for to in 0..self.machines {
            self.reset(from, to);
        }
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.link(from, to).cut = true;
    }

    /// Cuts every link of which this is true.
    pub(crate) fn cut_where(&mut self, cut: impl Fn(usize, usize) -> bool) {
        for from in 0..self.machines {
            for to in 0..self.machines {
                if cut(from, to) {
                    self.cut(from, to);
                }
            }
        }
    }

    /// Nothing is cut.
    pub(crate) fn heal(&mut self) {
        for link in &mut self.links {
            link.cut = false;
        }
    }

    pub(crate) fn set_latency(&mut self, micros: u64) {
        self.latency = micros;
    }

    pub(crate) fn set_loss(&mut self, permille: u64) {
        self.loss = permille;
    }

    /// From now on it is fast and loses nothing.
    pub(crate) fn behave(&mut self) {
        self.heal();
        self.latency = 50;
        self.loss = 0;
        self.strays = false;
    }
}

/// Whether the message travels as a datagram, as rm-wire has it.
fn may_overtake(body: &Body) -> bool {
    matches!(
        body,
        Body::Heartbeat { .. }
            | Body::HeartbeatResponse { .. }
            | Body::PreVoteRequest { .. }
            | Body::PreVoteResponse { .. }
            | Body::VoteRequest { .. }
            | Body::VoteResponse { .. }
    )
}
