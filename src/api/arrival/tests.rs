//! What is held of requests, and who gives way.

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::oneshot;
use tonic::Code;

use super::*;

const SHORT: Times = Times {
    message: Duration::from_millis(20),
    leaving: Duration::ZERO,
};
const LONG: Times = Times {
    message: Duration::from_secs(600),
    leaving: Duration::ZERO,
};

type Client = UnboundedSender<Result<Frame<Bytes>, Status>>;

/// A request, and the client that sends it.
fn request(arrivals: &Arc<Arrivals>, shape: Shape) -> (Arriving, Client) {
    let (client, frames) = unbounded();
    let body = Body::new(StreamBody::new(frames));
    (arrivals.count(body, shape), client)
}

fn send(client: &Client, bytes: &[u8]) {
    let frame = Frame::data(Bytes::copy_from_slice(bytes));
    client.unbounded_send(Ok(frame)).expect("it is taken");
}

/// How many bytes the next frame has, or why there is none.
async fn next(body: &mut Arriving) -> Result<Option<usize>, Code> {
    let frame = body.frame().await.transpose();
    let frame = frame.map_err(|status| status.code())?;
    Ok(frame.and_then(|frame| Some(frame.into_data().ok()?.len())))
}

fn message(bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).expect("it is short").to_be_bytes();
    [&[0], &length[..], &vec![7; bytes]].concat()
}

#[tokio::test]
async fn where_too_much_has_come_the_request_that_began_first_gives_way() {
    let arrivals = Arrivals::within(10, LONG);
    let (mut first, to_first) = request(&arrivals, Shape::One);
    let (mut second, to_second) = request(&arrivals, Shape::One);
    let (mut third, to_third) = request(&arrivals, Shape::One);
    for (body, client) in [(&mut first, &to_first), (&mut second, &to_second)] {
        send(client, &[0; 4]);
        assert_eq!(next(body).await, Ok(Some(4)));
    }
    assert_eq!((arrivals.arriving(), arrivals.given_up()), (8, 0));
    // It hears of it though nothing comes for it.
    let waits = tokio::spawn(async move { next(&mut first).await });
    tokio::task::yield_now().await;
    send(&to_third, &[0; 4]);
    assert_eq!(next(&mut third).await, Ok(Some(4)));
    let gave_way = waits.await.expect("it never panics");
    assert_eq!(gave_way, Err(Code::ResourceExhausted));
    assert_eq!((arrivals.arriving(), arrivals.given_up()), (8, 1));
    // One that gave way before it heard of it.
    send(&to_third, &[0; 4]);
    assert_eq!(next(&mut third).await, Ok(Some(4)));
    send(&to_second, &[0; 1]);
    assert_eq!(next(&mut second).await, Err(Code::ResourceExhausted));
    assert_eq!((arrivals.arriving(), arrivals.given_up()), (8, 2));
    to_third.close_channel();
    assert_eq!(next(&mut third).await, Ok(None));
    assert_eq!(arrivals.arriving(), 0, "done with");
    drop((second, third));
    assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, 0));
}

#[tokio::test]
async fn what_is_whole_counts_until_nobody_keeps_it_and_gives_way_no_more() {
    let arrivals = Arrivals::within(10, LONG);
    for in_one_frame in [true, false] {
        let kept = arrivals.keep();
        let mut whole = match in_one_frame {
            true => {
                let body = Body::new(Full::new(Bytes::from_static(&[0; 8])));
                arrivals.count(body, Shape::One)
            }
            false => {
                let (body, client) = request(&arrivals, Shape::One);
                send(&client, &[0; 8]);
                body
            }
        };
        whole = whole.kept_by(Some(kept.clone()));
        assert_eq!(next(&mut whole).await, Ok(Some(8)));
        assert_eq!(next(&mut whole).await, Ok(None));
        drop(whole);
        assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, 8));
        let (mut other, client) = request(&arrivals, Shape::One);
        send(&client, &[0; 4]);
        assert_eq!(next(&mut other).await, Err(Code::ResourceExhausted));
        let goes_on = kept.clone();
        drop(kept);
        assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, 8));
        drop(goes_on);
        assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, 0));
    }
}

#[tokio::test]
async fn small_requests_find_room_where_large_ones_wait() {
    let bytes_max = 8 * SMALL_BYTES;
    let arrivals = Arrivals::within(bytes_max, LONG);
    let kept = arrivals.keep();
    let one = |bytes: usize| {
        let body = Body::new(Full::new(Bytes::from(vec![0; bytes])));
        let arriving = arrivals.count(body, Shape::One);
        arriving.kept_by(Some(kept.clone()))
    };
    assert_eq!(next(&mut one(bytes_max)).await, Ok(Some(bytes_max)));
    for (bytes, expected) in [
        (SMALL_BYTES + 1, Err(Code::ResourceExhausted)),
        (SMALL_BYTES - 1, Ok(Some(SMALL_BYTES - 1))),
        (2, Err(Code::ResourceExhausted)),
        (1, Ok(Some(1))),
        (1, Err(Code::ResourceExhausted)),
    ] {
        assert_eq!(next(&mut one(bytes)).await, expected, "{bytes}");
    }
    assert_eq!(arrivals.waiting(), bytes_max + SMALL_BYTES);
    let mut operators = one(SMALL_BYTES - 8).for_operators(true);
    assert_eq!(next(&mut operators).await, Ok(Some(SMALL_BYTES - 8)));
    let mut large = one(SMALL_BYTES + 1).for_operators(true);
    assert_eq!(next(&mut large).await, Err(Code::ResourceExhausted));
    let (in_parts, client) = request(&arrivals, Shape::One);
    let mut in_parts = in_parts.for_operators(true).kept_by(Some(kept.clone()));
    send(&client, &[0; 8]);
    assert_eq!(next(&mut in_parts).await, Ok(Some(8)));
    client.close_channel();
    assert_eq!(next(&mut in_parts).await, Ok(None));
    let mut operators = one(1).for_operators(true);
    assert_eq!(next(&mut operators).await, Err(Code::ResourceExhausted));
}

#[tokio::test]
async fn large_requests_that_come_without_end_leave_small_ones_their_share() {
    let share = 2 * SMALL_BYTES;
    let bytes_max = 8 * share;
    let arrivals = Arrivals::within(bytes_max, LONG);
    let begun = async |bytes: usize| {
        let (mut body, client) = request(&arrivals, Shape::One);
        send(&client, &vec![0; bytes]);
        let come = next(&mut body).await;
        assert_eq!(come, Ok(Some(bytes)));
        (body, client)
    };
    let goes_on = async |(body, client): &mut (Arriving, Client)| {
        send(client, &[0]);
        next(body).await == Ok(Some(1))
    };
    let mut small = begun(SMALL_BYTES / 2).await;
    let mut large = begun(bytes_max).await;
    for given_up in 1..4 {
        let mut before = std::mem::replace(&mut large, begun(bytes_max).await);
        assert!(!goes_on(&mut before).await);
        assert!(goes_on(&mut small).await);
        assert_eq!(arrivals.given_up(), given_up);
    }
    drop(large);
    // What they hold beyond their share gives way as all does.
    let mut more = Vec::new();
    for _ in 0..5 {
        more.push(begun(SMALL_BYTES / 2).await);
    }
    let fits = begun(bytes_max - SMALL_BYTES - 16).await;
    assert!(goes_on(&mut small).await);
    drop(fits);
    drop(begun(bytes_max).await);
    assert!(!goes_on(&mut small).await);
    assert!(!goes_on(&mut more[0]).await);
    assert!(goes_on(&mut more[1]).await);
}

#[tokio::test]
async fn one_that_cannot_find_room_sends_nobody_away() {
    let arrivals = Arrivals::within(100, LONG);
    let kept = arrivals.keep();
    let body = Body::new(Full::new(Bytes::from_static(&[0; 90])));
    let mut whole = arrivals.count(body, Shape::One).kept_by(Some(kept.clone()));
    assert_eq!(next(&mut whole).await, Ok(Some(90)));
    let (mut other, to_other) = request(&arrivals, Shape::One);
    send(&to_other, &[0; 8]);
    assert_eq!(next(&mut other).await, Ok(Some(8)));
    let (mut too_large, client) = request(&arrivals, Shape::One);
    send(&client, &[0; 30]);
    assert_eq!(next(&mut too_large).await, Err(Code::ResourceExhausted));
    send(&to_other, &[0; 2]);
    assert_eq!(next(&mut other).await, Ok(Some(2)));
    assert_eq!((arrivals.arriving(), arrivals.given_up()), (10, 1));
}

#[tokio::test]
async fn what_gives_way_counts_until_it_is_let_go_and_is_cut_off_where_it_is_not() {
    let arrivals = Arrivals::within(100, LONG);
    let begun = async |bytes: usize| {
        let (body, client) = request(&arrivals, Shape::One);
        let connection = Cutoff::default();
        let mut body = body.on(Some(connection.clone()));
        send(&client, &vec![0; bytes]);
        let come = next(&mut body).await;
        assert_eq!(come, Ok(Some(bytes)));
        (body, client, connection)
    };
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(begun(20).await);
    }
    // Nobody polls those that have to give way.
    let mut more = vec![begun(20).await, begun(20).await];
    assert_eq!((arrivals.arriving(), arrivals.given_up()), (140, 2));
    let is_cut = |connection: &Cutoff| !connection.cut();
    more.push(begun(20).await);
    assert!(is_cut(&held[0].2), "40 bytes were held beside the room");
    assert!(!is_cut(&held[1].2), "one less was few enough");
    held.drain(..2);
    // Whoever hears of it keeps its connection.
    let (mut hears, _client, connection) = held.remove(0);
    assert!(next(&mut hears).now_or_never().is_some());
    assert_eq!(arrivals.arriving(), 100);
    assert!(!is_cut(&connection));
}

#[tokio::test]
async fn who_has_a_moment_to_hear_that_it_gave_way_is_cut_off_later_however_much_is_held() {
    let leaving = Duration::from_millis(50);
    let arrivals = Arrivals::within(100, Times { leaving, ..LONG });
    let mut held = Vec::new();
    let mut is_stuck = false;
    // Until as much again is held by those who do not hear.
    while !is_stuck {
        assert!(held.len() < 100, "nobody is refused");
        let (body, client) = request(&arrivals, Shape::One);
        let connection = Cutoff::default();
        let mut body = body.on(Some(connection.clone()));
        send(&client, &[0; 20]);
        match next(&mut body).await {
            Ok(_) => held.push((body, client, connection)),
            Err(_) => is_stuck = true,
        }
    }
    tokio::time::sleep(leaving).await;
    let (mut last, client) = request(&arrivals, Shape::One);
    send(&client, &[0; 20]);
    assert_eq!(next(&mut last).await, Err(Code::ResourceExhausted));
    let is_cut = |(_, _, connection): &(_, _, Cutoff)| !connection.cut();
    held.retain(|held| !is_cut(held));
    assert_eq!(held.len(), 5 + 1, "those with room, and what is few enough");
    let (mut last, client) = request(&arrivals, Shape::One);
    send(&client, &[0; 20]);
    assert_eq!(next(&mut last).await, Ok(Some(20)));
}

#[tokio::test]
async fn a_stream_whose_service_asks_for_no_more_is_cut_off_where_others_find_no_room() {
    let message_time = Duration::from_millis(50);
    let times = Times {
        message: message_time,
        ..LONG
    };
    let arrivals = Arrivals::within(100, times);
    let connection = Cutoff::default();
    let (stream, client) = request(&arrivals, Shape::Messages);
    let mut stream = stream.on(Some(connection.clone()));
    send(&client, &message(85));
    assert_eq!(next(&mut stream).await, Ok(Some(90)));
    let other = async || {
        let (mut body, client) = request(&arrivals, Shape::One);
        send(&client, &[0; 30]);
        next(&mut body).await
    };
    assert_eq!(other().await, Err(Code::ResourceExhausted));
    tokio::time::sleep(message_time).await;
    assert_eq!(other().await, Err(Code::ResourceExhausted));
    assert!(!connection.cut(), "it was cut off");
    drop(stream);
    assert_eq!(arrivals.waiting(), 0);
    assert_eq!(other().await, Ok(Some(30)));
}

#[tokio::test]
async fn what_has_given_way_is_never_whole() {
    let arrivals = Arrivals::within(100, LONG);
    for kept in [Some(arrivals.keep()), None] {
        let (first, to_first) = request(&arrivals, Shape::One);
        let mut first = first.kept_by(kept);
        send(&to_first, &[0; 60]);
        assert_eq!(next(&mut first).await, Ok(Some(60)));
        let (mut second, to_second) = request(&arrivals, Shape::One);
        send(&to_second, &[0; 60]);
        assert_eq!(next(&mut second).await, Ok(Some(60)));
        // Its end is there before it hears that it gave way.
        to_first.close_channel();
        assert_eq!(next(&mut first).await, Err(Code::ResourceExhausted));
    }
}

#[tokio::test]
async fn what_stays_leaves_room_for_what_does_not() {
    let arrivals = Arrivals::within(8 * SMALL_BYTES, LONG);
    let stay = async |bytes: usize| {
        let kept = arrivals.keep();
        let body = Body::new(Full::new(Bytes::from(vec![0; bytes])));
        let mut one = arrivals.count(body, Shape::One).kept_by(Some(kept.clone()));
        next(&mut one).await.expect("there is room");
        kept.stay()
    };
    let large = SMALL_BYTES + 1;
    let first = stay(2 * SMALL_BYTES).await.expect("there is room");
    assert!(stay(large).await.is_err());
    let small = stay(SMALL_BYTES).await;
    assert!(small.is_ok(), "in a share of their own");
    assert!(stay(1).await.is_err());
    drop((first, small));
    let one_that_is_larger = stay(3 * SMALL_BYTES).await;
    assert!(one_that_is_larger.is_ok(), "while nobody else stays");
    assert!(stay(1).await.is_err());
    drop(one_that_is_larger);
    let many = [stay(large).await, stay(SMALL_BYTES - 1).await];
    assert!(many.iter().all(Result::is_ok));
    assert_eq!(arrivals.waiting(), 0);
}

#[tokio::test]
async fn a_single_message_is_taken_while_something_else_is_waited_for() {
    let arrivals = Arrivals::within(100, LONG);
    let (body, client) = request(&arrivals, Shape::One);
    let kept = arrivals.keep();
    let mut body = body.kept_by(Some(kept.clone()));
    let (done, waits) = oneshot::channel();
    let waits = body.while_waiting_for(100, waits);
    let mut waits = Box::pin(waits);
    for sent in [40, 30] {
        send(&client, &vec![0; sent]);
        assert!(waits.as_mut().now_or_never().is_none());
    }
    assert_eq!((arrivals.arriving(), arrivals.waiting()), (70, 0));
    client.close_channel();
    assert!(waits.as_mut().now_or_never().is_none());
    assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, 70));
    done.send(7).expect("it is waited for");
    assert_eq!(waits.await.expect("it has room"), Ok(7));
    assert!(!body.is_end_stream());
    for expected in [Some(40), Some(30), None] {
        assert_eq!(next(&mut body).await, Ok(expected));
    }
    drop((body, kept));
    assert_eq!(arrivals.waiting(), 0);
}

#[tokio::test]
async fn of_a_message_that_is_too_large_no_more_is_taken_than_shows_that() {
    let arrivals = Arrivals::within(100, LONG);
    let (mut body, client) = request(&arrivals, Shape::One);
    for sent in [40, 30, 20] {
        send(&client, &vec![0; sent]);
    }
    let waits = body.while_waiting_for(50, std::future::pending::<()>());
    assert!(waits.now_or_never().is_none());
    assert_eq!(arrivals.arriving(), 70);
    for expected in [40, 30, 20] {
        assert_eq!(next(&mut body).await, Ok(Some(expected)));
    }
}

#[tokio::test]
async fn a_message_that_gives_way_ends_the_wait_for_something_else() {
    let arrivals = Arrivals::within(10, LONG);
    let (mut body, client) = request(&arrivals, Shape::One);
    send(&client, &[0; 12]);
    let waits = body
        .while_waiting_for(100, std::future::pending::<()>())
        .await;
    let code = waits.map_err(|status| status.code());
    assert_eq!(code, Err(Code::ResourceExhausted));
}

#[tokio::test]
async fn a_message_that_is_too_large_gives_way_while_something_else_is_waited_for() {
    let arrivals = Arrivals::within(100, LONG);
    let (mut too_large, client) = request(&arrivals, Shape::One);
    send(&client, &[0; 60]);
    let waits = async move {
        let waits = too_large.while_waiting_for(50, std::future::pending::<()>());
        waits.await.map_err(|status| status.code())
    };
    let mut waits = Box::pin(waits);
    assert!(waits.as_mut().now_or_never().is_none());
    let (mut other, to_other) = request(&arrivals, Shape::One);
    send(&to_other, &[0; 70]);
    assert_eq!(next(&mut other).await, Ok(Some(70)));
    let gave_way = waits.now_or_never();
    assert_eq!(gave_way, Some(Err(Code::ResourceExhausted)));
}

#[tokio::test]
async fn a_request_that_does_not_come_whole_in_time_is_waited_for_no_longer() {
    let arrivals = Arrivals::within(100, SHORT);
    let (mut silent, _client) = request(&arrivals, Shape::One);
    assert_eq!(next(&mut silent).await, Err(Code::DeadlineExceeded));
    for shape in [Shape::One, Shape::Messages, Shape::Other] {
        let (mut broken, client) = request(&arrivals, shape);
        send(&client, &message(9)[..7]);
        assert_eq!(next(&mut broken).await, Ok(Some(7)));
        assert_eq!(next(&mut broken).await, Err(Code::DeadlineExceeded));
        let refusal = broken.refusal().map(|status| status.code());
        assert_eq!(refusal, Some(Code::DeadlineExceeded), "{shape:?}");
    }
}

#[tokio::test]
async fn a_stream_whose_messages_are_whole_may_be_silent() {
    let arrivals = Arrivals::within(100, SHORT);
    let (mut body, client) = request(&arrivals, Shape::Messages);
    let messages = [message(9), message(9)].concat();
    for (piece, held) in [(&messages[..20], 20), (&messages[20..], 14)] {
        send(&client, piece);
        next(&mut body).await.expect("it has come");
        assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, held));
    }
    let more = tokio::time::timeout(3 * SHORT.message, next(&mut body)).await;
    assert!(more.is_err(), "it still waits");
    assert_eq!(arrivals.waiting(), 0, "more is asked for");
}

#[tokio::test]
async fn the_time_of_a_message_begins_when_the_one_before_is_whole() {
    let arrivals = Arrivals::within(98, LONG);
    let (mut body, client) = request(&arrivals, Shape::Messages);
    let (mut other, to_other) = request(&arrivals, Shape::Messages);
    let messages = [message(9), message(15)].concat();
    send(&client, &messages[..10]);
    next(&mut body).await.expect("it has come");
    send(&to_other, &message(50)[..40]);
    next(&mut other).await.expect("it has come");
    // Its second message has begun after the other's.
    send(&client, &messages[10..]);
    next(&mut body).await.expect("it has come");
    send(&client, &message(75)[..70]);
    assert_eq!(next(&mut body).await, Ok(Some(70)));
    send(&to_other, &[0]);
    assert_eq!(next(&mut other).await, Err(Code::ResourceExhausted));
    assert_eq!(arrivals.arriving(), 70);
}
