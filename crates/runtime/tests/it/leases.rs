//! Candidates on an API server, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use fv_apiserver::{ApiServer, ApiServerBuilder, Store, UserInfo};
use fv_runtime::Clock;
use fv_runtime::leases::{Candidate, Led, Timing, lead};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

async fn server() -> ApiServer {
    ApiServerBuilder::new(Store::memory()).build().await.unwrap()
}

fn client(server: &ApiServer) -> kube::Client {
    server.client_as(UserInfo::admin("candidate"))
}

fn leases(server: &ApiServer) -> Api<Lease> {
    Api::namespaced(client(server), "default")
}

/// When each candidate worked.
type Journal = Arc<Mutex<Vec<(&'static str, &'static str, Duration)>>>;

struct Runner {
    stop: CancellationToken,
    task: JoinHandle<Led<&'static str>>,
}

fn run(client: kube::Client, name: &'static str, journal: &Journal, start: Instant) -> Runner {
    let stop = CancellationToken::new();
    let candidate = Candidate {
        client,
        namespace: "default".into(),
        name: "the-lease".into(),
        identity: name.into(),
        timing: Timing::default(),
        clock: Clock::runtime("2026-01-01T00:00:00Z".parse().unwrap()),
    };
    let (journal, shutdown) = (journal.clone(), stop.clone());
    let task = tokio::spawn(async move {
        let work = |shutdown: CancellationToken| async move {
            let _end = Note { name, journal: journal.clone(), start };
            journal.lock().push((name, "works", start.elapsed()));
            shutdown.cancelled().await;
            // It takes longer to end than others would leave the lease alone.
            sleep(Duration::from_secs(20)).await;
            name
        };
        lead(candidate, shutdown, work).await.unwrap()
    });
    Runner { stop, task }
}

struct Note {
    name: &'static str,
    journal: Journal,
    start: Instant,
}

impl Drop for Note {
    fn drop(&mut self) {
        self.journal.lock().push((self.name, "ended", self.start.elapsed()));
    }
}

#[tokio::test(start_paused = true)]
async fn one_works_and_another_takes_over_when_it_has_ended() {
    let (server, journal, start) = (server().await, Journal::default(), Instant::now());
    let a = run(client(&server), "a", &journal, start);
    sleep(Duration::from_secs(1)).await;
    let b = run(client(&server), "b", &journal, start);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(journal.lock().iter().map(|(who, what, _)| (*who, *what)).collect::<Vec<_>>(), [("a", "works")]);
    a.stop.cancel();
    assert!(matches!(a.task.await.unwrap(), Led::Finished("a")));
    sleep(Duration::from_secs(5)).await;
    let seen = journal.lock().clone();
    assert_eq!(
        seen.iter().map(|(who, what, _)| (*who, *what)).collect::<Vec<_>>()[1..],
        [("a", "ended"), ("b", "works")]
    );
    assert!(seen[1].2 >= Duration::from_secs(81), "it was renewed while the work came to its end: {seen:?}");
    assert!(seen[2].2 - seen[1].2 < Duration::from_secs(3), "given back, so taken at once: {seen:?}");
    let lease = leases(&server).get("the-lease").await.unwrap().spec.unwrap();
    assert_eq!((lease.holder_identity.as_deref(), lease.lease_transitions), (Some("b"), Some(1)));
    assert_eq!(lease.lease_duration_seconds, Some(15));
    b.stop.cancel();
    b.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_standby_can_be_stopped() {
    let (server, journal, start) = (server().await, Journal::default(), Instant::now());
    let a = run(client(&server), "a", &journal, start);
    sleep(Duration::from_secs(1)).await;
    let b = run(client(&server), "b", &journal, start);
    sleep(Duration::from_secs(3)).await;
    b.stop.cancel();
    assert!(matches!(b.task.await.unwrap(), Led::Never));
    a.stop.cancel();
    a.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_from_the_api_stops_before_another_starts() {
    let (server, journal, start) = (server().await, Journal::default(), Instant::now());
    let cut = Arc::new(Mutex::new(false));
    let a = {
        let (router, cut) = (server.router(), cut.clone());
        let service = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
            let (router, cut) = (router.clone(), cut.clone());
            request.extensions_mut().insert(UserInfo::admin("candidate"));
            async move {
                if *cut.lock() {
                    // Neither answered nor refused, as when packets are lost.
                    std::future::pending::<()>().await;
                }
                tower::ServiceExt::oneshot(router, request.map(axum::body::Body::new)).await
            }
        });
        run(kube::Client::new(service, "default"), "a", &journal, start)
    };
    sleep(Duration::from_secs(1)).await;
    let b = run(client(&server), "b", &journal, start);
    sleep(Duration::from_secs(10)).await;
    *cut.lock() = true;
    assert!(matches!(a.task.await.unwrap(), Led::Lost));
    sleep(Duration::from_secs(20)).await;
    let seen = journal.lock().clone();
    let [(_, _, _), (first, what, ended), (second, _, started)] = seen[..] else { panic!("{seen:?}") };
    assert_eq!((first, what, second), ("a", "ended", "b"));
    assert!(ended <= Duration::from_secs(21) && started > ended, "{seen:?}");
    b.stop.cancel();
    b.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deleted_is_made_again_by_its_leader() {
    let (server, journal, start) = (server().await, Journal::default(), Instant::now());
    let a = run(client(&server), "a", &journal, start);
    sleep(Duration::from_secs(5)).await;
    leases(&server).delete("the-lease", &DeleteParams::default()).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let lease = leases(&server).get("the-lease").await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity.as_deref(), Some("a"));
    assert_eq!(journal.lock().len(), 1, "the work went on");
    a.stop.cancel();
    a.task.await.unwrap();
}
