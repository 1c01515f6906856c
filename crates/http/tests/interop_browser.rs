//! The status page in a real browser: Debian's Chromium, without a window.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use cuttlebone_http::status::{
    BucketStatus, CheckpointStatus, ConnectionStatus, CursorStatus, Direction, MountStatus, PublishedStatus,
    SourceState, SourceStatus, Status, UpdateStage, VbucketState, VbucketStatus,
};
use cuttlebone_http::{Address, Config, Face, Server, TokioClock};
use cuttlebone_tokens::{OwnerId, Registry, Takeover};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

/// Something in every section, none of it what another section has.
fn everything() -> Status {
    let cursor =
        |name: &str, seqno| CursorStatus { name: name.into(), checkpoint: 2, seqno, lag_items: 900 - seqno };
    let vbucket = |id: u16| VbucketStatus {
        id,
        state: if id == 1 { VbucketState::Replica } else { VbucketState::Active },
        items: 700,
        last_seqno: 900,
        persisted_seqno: 510 + 40 * u64::from(id),
        unpersisted: 390,
        in_window: true,
        checkpoints: (0..3)
            .map(|at| CheckpointStatus {
                id: at + 1,
                first_seqno: 300 * at + 1,
                last_seqno: 300 * at + 300,
                items: 300,
                open: at == 2,
            })
            .collect(),
        cursors: vec![
            cursor("persistence", 510 + 40 * u64::from(id)),
            cursor("replica-b", 860),
            cursor("slow", 120),
        ],
        ..VbucketStatus::default()
    };
    let mut status = Status {
        sources: vec![SourceStatus {
            name: "cell-mons".into(),
            kind: "monsync".into(),
            peer: Some("mon.a v2:10.0.0.1:3300/0".into()),
            state: SourceState::Following,
            lag_versions: Some(3),
            lag_ms: Some(1_250),
            items_total: 48_211,
            bytes_total: 73_400_320,
            failures_total: 2,
            last_error: Some("the monitor went away".into()),
            ..SourceStatus::default()
        }],
        buckets: vec![BucketStatus::new("main", (0..4).map(vbucket))],
        mounts: (1..=3)
            .map(|at| MountStatus {
                name: format!("cell/agent-{at}"),
                server: format!("10.0.0.{at}:7000"),
                age_ms: Some(4_000 * at),
                expires_in_ms: Some(56_000),
            })
            .collect(),
        ..Status::default()
    };
    status.node.name = "origin-a".into();
    status.node.detail = "two peers follow".into();
    status.update.stage = UpdateStage::On;
    status.update.held_items = 333;
    status.update.owner = Some("deploy-42".into());
    let published =
        |name: &str, mounted| PublishedStatus { name: name.into(), mounted, ..PublishedStatus::default() };
    status.published = [published("cell/store", true), published("cell/spare", false)].into_iter().collect();
    let link = ConnectionStatus {
        peer: "mon.b".into(),
        address: "v2:10.0.0.2:3300/0".into(),
        direction: Direction::Accepted,
        purpose: "monsync".into(),
        age_ms: 86_400_000,
    };
    status.connections = [link].into_iter().collect();
    status
}

struct Browser {
    profile: tempfile::TempDir,
}

impl Browser {
    fn new() -> Self {
        Self { profile: tempfile::tempdir().unwrap() }
    }

    /// Runs it once; its answer, and what it had to complain about.
    async fn run(&self, arguments: &[String]) -> (String, String) {
        let mut command = Command::new("chromium");
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]);
        command.args([
            "--enable-logging=stderr",
            "--log-level=0",
            "--no-first-run",
            "--disable-background-networking",
        ]);
        command.arg(format!("--user-data-dir={}", self.profile.path().display()));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        let output = output.expect("the browser hangs").expect("chromium: install chromium");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let log = text(output.stderr);
        assert!(output.status.success(), "{}\n{log}", output.status);
        (text(output.stdout), log)
    }

    /// The page as it stands after some seconds, and every complaint of the console.
    async fn look(&self, url: &str) -> (String, Vec<String>) {
        let arguments = ["--virtual-time-budget=5000", "--dump-dom", url].map(String::from);
        let (page, log) = self.run(&arguments).await;
        (page, log.lines().filter(|line| line.contains("CONSOLE")).map(String::from).collect())
    }

    async fn picture(&self, url: &str, width: u32, to: &Path) {
        let screenshot = format!("--screenshot={}", to.display());
        self.run(&[screenshot, format!("--window-size={width},2600"), url.into()]).await;
        assert!(
            std::fs::metadata(to).is_ok_and(|file| file.len() > 10_000),
            "no picture in {}",
            to.display()
        );
    }
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// What stands between the tag with this id and the next one, as the browser sees it.
fn shown<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} on {page}"));
    let text = rest.split_once('>').unwrap().1;
    // A badge or a tooltip may stand around the text.
    let text = if text.starts_with('<') { text.split_once('>').unwrap().1 } else { text };
    text.split('<').next().unwrap()
}

fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) =
        page.split_once(&format!("<section id=\"{id}\"")).unwrap_or_else(|| panic!("no section {id}"));
    rest.split("</section>").next().unwrap()
}

/// Every section says what the JSON says.
fn assert_true(page: &str, status: &Status) {
    assert_eq!(shown(page, "node-stage"), "serving");
    assert_eq!(shown(page, "node-detail"), status.node.detail);
    assert_eq!(shown(page, "node-version"), status.node.version);
    let number = |id: &str, number: u64| assert_eq!(shown(page, id), number.to_string(), "{id}");
    number("bucket-0-items", status.buckets[0].items);
    number("bucket-0-unpersisted", status.buckets[0].unpersisted);
    number("update-held", status.update.held_items);
    number("tokens-held", status.tokens.held);
    number("tokens-waiting", status.tokens.waiting);
    number("mounts-total", status.mounts.total);
    number("published-total", status.published.total);
    number("connections-total", status.connections.total);
    assert_eq!(shown(page, "update-stage"), "on");
    assert_eq!(shown(page, "update-owner"), "deploy-42");
    let source = section(page, "sources");
    for text in ["cell-mons (monsync)", "following", "mon.a v2:10.0.0.1:3300/0", "1.2 s", "48211", "70.0 MiB"]
    {
        assert!(source.contains(text), "{text} is not in {source}");
    }
    let buckets = section(page, "buckets");
    for cursor in &status.buckets[0].cursors {
        let row = format!("{}</th><td>{}</td>", cursor.name, cursor.lag_items);
        assert!(buckets.contains(&row), "{row}");
    }
    for vbucket in &status.buckets[0].vbuckets.rows {
        let words = format!(
            "vbucket {}: 3 checkpoints up to seqno 900, {} on disk",
            vbucket.id, vbucket.persisted_seqno
        );
        assert!(buckets.contains(&words), "{words}");
    }
    assert_eq!(buckets.matches("class=\"cursor\"").count(), 12, "a mark for each cursor");
    for (id, names) in [
        ("tokens", status.tokens.names.rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>()),
        ("mounts", status.mounts.rows.iter().map(|row| row.server.clone()).collect()),
        ("published", status.published.rows.iter().map(|row| row.name.clone()).collect()),
        ("connections", status.connections.rows.iter().map(|row| row.address.clone()).collect()),
    ] {
        assert!(
            !names.is_empty() && names.iter().all(|name| section(page, id).contains(name)),
            "{id}: {names:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_section_is_there_and_true_and_the_console_has_no_complaint() {
    let registry = Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new());
    let owner = registry.register("backfill", OwnerId(1), Takeover::Deny).await.unwrap();
    let _token = owner.acquire().await.unwrap();
    let mut waiter = core::pin::pin!(owner.acquire());
    assert!(futures::poll!(waiter.as_mut()).is_pending());
    let looks = AtomicU64::new(0);
    let face = Face::new().with_tokens(registry.clone()).with_status(move || {
        let mut status = everything();
        status.update.completed_total = looks.fetch_add(1, Ordering::Relaxed);
        status
    });
    let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), Config::default()).await.unwrap();
    let Address::Tcp(address) = server.address() else { panic!() };
    let task = tokio::spawn(server.serve(face, core::future::pending()));
    let url = format!("http://{address}/");
    let status: Status = serde_json::from_str(&get(&address, "/v1/status").await).unwrap();
    assert_eq!((status.tokens.held, status.tokens.waiting), (1, 1));

    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("status-page");
    std::fs::create_dir_all(&folder).unwrap();
    let asked = |page: &str| shown(page, "update-completed").parse::<u64>().unwrap();
    let first = get(&address, "/").await;
    // Without a script this is all there is. (A browser whose scripts are off dumps and paints nothing when it has no
    // window, so the words are checked as they are served.)
    assert_true(&first, &status);
    assert!(first.contains("<noscript><meta http-equiv=\"refresh\""), "it loads itself again");
    let (page, complaints) = Browser::new().look(&url).await;
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert_true(&page, &status);
    assert!(asked(&page) > asked(&first), "an old page");
    for (width, name) in [(1_280, "wide"), (390, "narrow")] {
        Browser::new().picture(&url, width, &folder.join(name).with_extension("png")).await;
    }
    println!("pictures are in {}", folder.display());
    task.abort();
}
