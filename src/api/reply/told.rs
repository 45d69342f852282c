//! What a stream tells one thing after the other: each counts as a reply until the next is asked for, which is when the client has taken it.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use prost::Message;
use rm_actors::port::{Port, ReplyRoom};
use tonic::Status;

use super::Pace;
use super::pace::Ticket;
use crate::connection::Cutoff;
use crate::error::refused;

/// How many times a message is in memory: as it is told, and as it is encoded.
const COPIES: usize = 2;

/// To whom something is told.
pub(crate) struct Told {
    pub(crate) port: Port,
    pub(crate) pace: Arc<Pace>,
    /// Closes the connection.
    pub(crate) cut: Option<Cutoff>,
}

/// What a message holds that is on its way.
type Held = (ReplyRoom, Arc<Ticket>);

impl Told {
    /// The same messages, each once there is room for it.
    pub(crate) fn one_by_one<M: Message>(
        self,
        messages: impl Stream<Item = Result<M, Status>> + Send + 'static,
    ) -> impl Stream<Item = Result<M, Status>> {
        let state = (messages.boxed(), self, None::<Held>);
        stream::unfold(Some(state), |state| async move {
            let (mut messages, told, last) = state?;
            drop(last);
            let next = match messages.next().await? {
                Ok(message) => told.hold(&message).await.map(|held| (message, held)),
                Err(status) => Err(status),
            };
            Some(match next {
                Ok((message, held)) => (Ok(message), Some((messages, told, Some(held)))),
                Err(status) => (Err(status), None),
            })
        })
    }

    async fn hold(&self, message: &impl Message) -> Result<Held, Status> {
        let room = self.port.room_to_tell(COPIES * message.encoded_len()).await;
        let ticket = self.pace.begin_told(self.cut.clone());
        Ok((room.map_err(refused)?, ticket))
    }
}
