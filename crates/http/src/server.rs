use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;
use core::time::Duration;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::{Config, HEAD_BYTES_MAX, HEADERS_MAX, Network};
use crate::face::Face;
use crate::peer::{Peer, Watched};
use crate::stream::Stream;
use crate::traffic::{Place, Traffic};

/// Where a service listens, or a client finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the two kinds of listener there are")]
pub enum Address {
    /// `HOST:PORT`, also written `http://HOST:PORT`.
    Tcp(String),
    /// `unix:PATH`; the file's permissions are the lock.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = ServeError;

    fn from_str(text: &str) -> Result<Self, ServeError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(address.into()))
            }
            _ => Err(ServeError::BadAddress(text.into())),
        }
    }
}

impl Address {
    /// Whether no network lies between: a Unix socket, or a loopback address in numbers.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(text) => text.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Neither `HOST:PORT` nor `unix:PATH`.
    #[error("not an address: {0}; write HOST:PORT or unix:PATH")]
    BadAddress(String),
    /// Others can reach the listener, and there is no bearer token to keep them out.
    #[error("{0} can be reached from other machines, so a bearer token is required")]
    TokenRequired(SocketAddr),
    /// The listener could not be opened.
    #[error("cannot listen on {0}")]
    Listen(Address, #[source] io::Error),
}

/// A listener that is open and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    config: Config,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket; removed when the service stops.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_file(&self.0);
    }
}

impl Server {
    /// Opens the listener.
    ///
    /// # Errors
    ///
    /// [`ServeError::Listen`]; [`ServeError::TokenRequired`] if others can reach it and the configuration has no bearer.
    pub async fn bind(address: &Address, config: Config) -> Result<Self, ServeError> {
        let failed = |error| ServeError::Listen(address.clone(), error);
        let listener = match address {
            Address::Tcp(text) => {
                let listener = TcpListener::bind(text).await.map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                if !bound.ip().is_loopback() && config.bearer.is_none() {
                    return Err(ServeError::TokenRequired(bound));
                }
                Listener::Tcp(listener)
            }
            Address::Unix(path) => {
                remove_dead_socket(path).await.map_err(failed)?;
                let listener = UnixListener::bind(path).map_err(failed)?;
                let file = SocketFile(path.clone());
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
                Listener::Unix(listener, file)
            }
        };
        Ok(Self { listener, config })
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> Address {
        match &self.listener {
            Listener::Tcp(listener) => {
                Address::Tcp(listener.local_addr().map(|a| a.to_string()).unwrap_or_default())
            }
            Listener::Unix(_, file) => Address::Unix(file.0.clone()),
        }
    }

    /// Serves `face` until `stop` ends; then every open answer ends, which its client takes for a lost connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes every connection at once.
    pub async fn serve(self, face: impl Into<Face>, stop: impl Future<Output = ()>) {
        let Self { listener, config } = self;
        let places = Arc::new(Semaphore::new(config.connections_max));
        let between = config.network == Network::Between;
        let (head, stall) = (config.head_timeout, config.stall_timeout);
        let traffic = Arc::new(Traffic::new(config.connections_per_client_max));
        let face = face.into();
        let mut upkeep = core::pin::pin!(face.upkeep());
        let router = face.router(&Arc::new(config), Arc::clone(&traffic));
        let mut connections = JoinSet::new();
        let mut stop = core::pin::pin!(stop);
        loop {
            let accepted = async {
                // A place first: what is not accepted waits in the system's own bounded queue.
                let place = Arc::clone(&places).acquire_owned().await;
                (place, accept(&listener).await)
            };
            tokio::select! {
                () = &mut stop => break,
                never = &mut upkeep => match never {},
                Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
                (place, (stream, from)) = accepted => {
                    let Ok(place) = place else { continue };
                    let local = from.is_none_or(|from| from.is_loopback()) && !between;
                    let counted = from.filter(|_| !local);
                    let Some(place) = Place::take(place, &traffic, counted) else {
                        stream.turn_away();
                        continue;
                    };
                    let peer = Peer::new(local);
                    let stream = Watched::new(stream, peer.clone(), place, stall);
                    connections.spawn(converse(stream, router.clone().layer(Extension(peer)), head));
                }
            }
        }
        connections.shutdown().await;
    }
}

/// A socket file that nobody listens on is what a killed service left; one that answers is somebody's.
async fn remove_dead_socket(path: &Path) -> io::Result<()> {
    let Ok(kind) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if kind.file_type().is_socket() && UnixStream::connect(path).await.is_err() {
        return std::fs::remove_file(path);
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
}

/// How long to wait after a connection could not be accepted: there are too many open files, or it is gone again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The next connection, and from where it comes if over a network.
async fn accept(listener: &Listener) -> (Stream, Option<IpAddr>) {
    loop {
        let accepted = match listener {
            Listener::Tcp(listener) => listener.accept().await.and_then(|(stream, from)| {
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Some(from.ip())))
            }),
            Listener::Unix(listener, _) => {
                listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), None))
            }
        };
        match accepted {
            Ok(accepted) => return accepted,
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers what comes over one connection until its end.
pub(crate) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    head_timeout: Duration,
) {
    let service = TowerToHyperService::new(router);
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    http.max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
    // A client that breaks off is an everyday event; its sessions find out by themselves.
    let _ended: Result<(), hyper::Error> = http.serve_connection(TokioIo::new(stream), service).await;
}
