//! A consumer on a thread of its own.

use cuttlebone_bucket::engine::MemoryEngine;
use cuttlebone_bucket::{Bucket, Error, Event, Now, VbucketId};
use cuttlebone_checkpoint::Seqno;

/// Applies what comes until the producer is done and nothing is left. Seqnos only grow. `rest` lets others go on.
pub(crate) fn follow(
    producer: &Bucket<MemoryEngine>,
    replica: &Bucket<MemoryEngine>,
    vbucket: VbucketId,
    name: &str,
    is_done: impl Fn() -> bool,
    rest: impl Fn(),
) {
    let connect = || producer.stream(vbucket, name, replica.position(vbucket).unwrap()).unwrap();
    let (mut stream, mut last) = (connect(), Seqno(0));
    loop {
        let finishing = is_done();
        match stream.try_next() {
            Ok(Some(event)) => {
                match &event {
                    Event::Item(item) => {
                        assert!(item.seqno() > last, "{} after {last}", item.seqno());
                        last = item.seqno();
                    }
                    Event::Rollback => last = Seqno(0),
                    _ => {}
                }
                while let Err(error) = replica.apply(vbucket, Now::default(), event.clone()) {
                    assert!(error.is_retryable(), "{event:?}: {error:?}");
                    replica.flush().unwrap();
                }
                stream.acknowledge(stream.events());
            }
            Ok(None) if finishing => return,
            Ok(None) => rest(),
            Err(Error::StreamOver) => stream = connect(),
            Err(error) => panic!("{error}"),
        }
    }
}
