//! The HTTP API on a unix socket, and metrics on TCP.

mod explain;
mod handlers;
mod metrics;
mod view;

use core::net::SocketAddr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::{TcpListener, UnixListener};

use crate::app::Shared;
use crate::limits;

/// Name of the socket in the run directory.
const SOCKET: &str = "causeway.sock";

/// Opens the socket. Only its owner may use it: whoever can reset sessions is an administrator.
///
/// # Errors
///
/// If the directory can't be written or another daemon answers there.
pub(crate) fn listen(run_dir: &Path) -> Result<UnixListener> {
    let path = run_dir.join(SOCKET);
    let cannot = || format!("cannot listen on {}; set --run-dir", path.display());
    fs::create_dir_all(run_dir).with_context(cannot)?;
    if UnixStream::connect(&path).is_ok() {
        bail!(
            "another causewayd answers on {}; stop it or set --run-dir",
            path.display()
        );
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(cannot);
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(cannot)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(cannot)?;
    Ok(listener)
}

/// Removes the socket.
pub(crate) fn remove(run_dir: &Path) {
    // Nobody listens any more; the next daemon removes what is left.
    let _ = fs::remove_file(run_dir.join(SOCKET));
}

/// Opens the address for metrics.
///
/// # Errors
///
/// If it can't be opened.
pub(crate) async fn listen_metrics(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| {
        format!("cannot listen on {address} for metrics; set --metrics to a free one")
    })
}

/// Answers requests on the socket.
pub(crate) async fn serve(listener: UnixListener, shared: Shared) {
    let router = Router::new()
        .route("/v1/status", get(handlers::status))
        .route("/v1/config", get(handlers::config))
        .route("/v1/routes", get(handlers::routes))
        .route("/v1/routes/explain", get(explain::explain))
        .route("/v1/maps", get(handlers::maps))
        .route("/v1/maps/verify", get(handlers::verify_maps))
        .route("/v1/maps/dump/{name}", get(handlers::map_entries))
        .route("/v1/bgp/neighbors", get(handlers::neighbors))
        .route("/v1/bgp/routes", get(handlers::bgp_routes))
        .route("/v1/bgp/received", get(handlers::received))
        .route("/v1/bgp/advertised", get(handlers::advertised))
        .route("/v1/bgp/explain", get(handlers::explain))
        .route("/v1/bgp/neighbors/{name}/{action}", post(handlers::act))
        .fallback(handlers::unknown)
        .layer(DefaultBodyLimit::max(limits::API_BODY_BYTES))
        .with_state(shared);
    server::run(|| async { Ok(listener.accept().await?.0) }, router).await;
}

/// Answers requests for metrics.
pub(crate) async fn serve_metrics(listener: TcpListener, shared: Shared) {
    let router = Router::new()
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::max(0))
        .with_state(shared);
    server::run(|| async { Ok(listener.accept().await?.0) }, router).await;
}

/// HTTP/1 with a limit on connections and on the time for each, which `axum::serve` doesn't have.
mod server {
    use core::time::Duration;
    use std::io;
    use std::sync::Arc;

    use axum::Router;
    use hyper::server::conn::http1;
    use hyper_util::rt::{TokioIo, TokioTimer};
    use hyper_util::service::TowerToHyperService;
    use tokio::io::{AsyncRead, AsyncWrite};
    use tokio::sync::Semaphore;

    use crate::limits;

    pub(super) async fn run<S, F>(mut accept: impl FnMut() -> F, router: Router)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = io::Result<S>>,
    {
        let free = Arc::new(Semaphore::new(limits::API_CONNECTIONS));
        while let Ok(permit) = free.clone().acquire_owned().await {
            let stream = match accept().await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the API cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let serving = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(limits::API_TIME)
                    .max_buf_size(limits::API_BODY_BYTES)
                    .serve_connection(TokioIo::new(stream), service);
                // A client that goes away or is too slow needs no answer.
                let _ = tokio::time::timeout(limits::API_TIME, serving).await;
                drop(permit);
            });
        }
    }
}
