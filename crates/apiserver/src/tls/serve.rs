//! Listening, and serving with the identity that a client's certificate gives it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use fv_runtime::tls::PeerCertificate;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::ServerTls;
use crate::auth::user_from_certificate;

/// How often the certificate's age is looked at.
const RENEWAL: Duration = Duration::from_secs(12 * 3600);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there already.
    #[error(
        "listen on {address}: the address is in use; stop the other program or choose another with --listen ADDR:PORT"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be used.
    #[error("listen on {address}; choose another with --listen ADDR:PORT")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Binds the listener; port 0 takes any free port.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => ListenError::InUse { address },
        _ => ListenError::Address { address, source },
    })
}

/// Serves the router over TLS (HTTP/1.1 and HTTP/2) until `shutdown`, then gives running requests a few seconds. Requests of a
/// client with a certificate carry its `UserInfo`; the others carry none.
pub async fn serve_tls(listener: TcpListener, router: Router, tls: Arc<ServerTls>, shutdown: CancellationToken) {
    let router = router.layer(axum::middleware::map_request(identify));
    tokio::select! {
        () = fv_runtime::tls::serve(listener, router, tls.config(), shutdown) => {}
        () = renew(tls) => {}
    }
}

/// Renews the certificate when it is about to expire; never ends.
async fn renew(tls: Arc<ServerTls>) {
    let mut due = tokio::time::interval(RENEWAL);
    loop {
        due.tick().await;
        if let Err(error) = tls.renew(Timestamp::now()) {
            tracing::error!(%error, "the server certificate cannot be renewed");
        }
    }
}

async fn identify(mut request: Request) -> Request {
    let user = request.extensions().get::<PeerCertificate>().and_then(|peer| user_from_certificate(&peer.0));
    if let Some(user) = user {
        request.extensions_mut().insert(user);
    }
    request
}
