//! The end of a node: nothing is promised any more that the last flush would have had to keep.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Now, VbucketState};
use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TakeoverName, TokenRequest};
use cuttlebone_http::update::{NAME, Step, Updated};
use cuttlebone_http::{Client, ClientError, TokioClock};
use cuttlebone_node::{Face, Ground, Node, Phase, Running, Service};
use cuttlebone_tokens::Registry;
use tokio::sync::oneshot;

type Answer = Result<Updated, ClientError>;

/// Asks for something when the node has begun to flush.
struct Late {
    ask: oneshot::Receiver<(Client, String)>,
    answer: oneshot::Sender<Answer>,
}

impl Service for Late {
    fn name(&self) -> &'static str {
        "late"
    }

    fn stops(&self) -> Phase {
        Phase::Flush
    }

    fn run(self: Box<Self>, ground: Ground) -> Running {
        Box::pin(async move {
            let (client, fence) = self.ask.await.unwrap();
            ground.stopping().await;
            drop(self.answer.send(client.update(Step::Complete, &fence).await));
            Ok(())
        })
    }
}

/// The fence of a token that is given back at once.
async fn fence(client: &Client) -> String {
    let request = RegisterRequest {
        name: NAME.into(),
        takeover: TakeoverName::Wait,
        limit: Some(1),
        lease: LeaseTerms::Response,
    };
    let mut owner = client.register(&request).await.unwrap();
    let Event::Registered { epoch, .. } = owner.held(|_| {}).await.unwrap() else { panic!() };
    let request = TokenRequest { epoch: Some(epoch), slots: 1, wait: true, ..Default::default() };
    let mut token = client.token(NAME, &request).await.unwrap();
    let Event::Granted { fence, .. } = token.held(|_| {}).await.unwrap() else { panic!() };
    fence
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_cannot_be_completed_when_the_last_flush_has_begun() {
    let dir = tempfile::tempdir().unwrap();
    let disk = LogEngine::open(dir.path()).unwrap();
    let bucket = Bucket::open(disk, BucketLimits::default(), Now::default(), 1).unwrap();
    bucket.create(0, Now::default(), VbucketState::Active).unwrap();
    let registry = Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new());
    let ((tell, ask), (answer, answered)) = (oneshot::channel(), oneshot::channel());
    let node = Node::builder()
        .bucket(bucket)
        .tokens(registry)
        .service(Late { ask, answer })
        .status(Face::listening("127.0.0.1:0".parse().unwrap()))
        .build()
        .unwrap();
    let (handle, (stop, stopped)) = (node.handle(), oneshot::channel::<()>());
    let task = tokio::spawn(node.run(async { drop(stopped.await) }));
    let address = loop {
        match handle.http() {
            Some(address) => break address,
            None => tokio::task::yield_now().await,
        }
    };
    let client = Client::new(address.parse().unwrap(), None);
    let fence = fence(&client).await;
    client.update(Step::Start, &fence).await.unwrap();
    assert!(tell.send((client, fence)).is_ok());
    drop(stop);
    match answered.await.unwrap() {
        Err(ClientError::Refused(_, problem)) => assert_eq!(problem.error, "fenced"),
        other => panic!("{other:?}"),
    }
    task.await.unwrap().unwrap();
}
