//! What a stream tells one thing after the other: each counts as a reply until it has left the machine.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use prost::Message;
use rm_actors::port::Port;
use tonic::Status;

use super::{Held, Pace};
use crate::connection::Cutoff;
use crate::patience::Patience;

/// How many times a message is in memory: as it is told, and as it is encoded.
const COPIES: usize = 2;

/// To whom something is told.
pub(crate) struct Told {
    pub(crate) port: Port,
    pub(crate) pace: Arc<Pace>,
    /// Closes the connection.
    pub(crate) cut: Option<Cutoff>,
}

impl Told {
    /// The same messages, each once there is room for it, up to the error that ends them, or until there is no more patience, whatever is
    /// waited for.
    pub(crate) fn one_by_one<M: Message>(
        self,
        messages: impl Stream<Item = Result<M, Status>> + Send + 'static,
        patience: Patience,
    ) -> impl Stream<Item = Result<(M, Held), Status>> {
        let state = (messages.boxed(), self, patience);
        stream::unfold(Some(state), |state| async move {
            let (mut messages, told, mut patience) = state?;
            let next = async {
                Some(match messages.next().await? {
                    Ok(message) => {
                        let held = told.hold(&message).await;
                        Ok((message, held))
                    }
                    Err(status) => Err(status),
                })
            };
            let next = tokio::select! {
                next = next => next?,
                status = patience.over() => Err(status),
            };
            let rest = next.is_ok().then_some((messages, told, patience));
            Some((next, rest))
        })
    }

    async fn hold(&self, message: &impl Message) -> Held {
        let room = self.port.room_to_tell(COPIES * message.encoded_len()).await;
        Held::as_reply(room, self.pace.begin_told(self.cut.clone()))
    }
}
