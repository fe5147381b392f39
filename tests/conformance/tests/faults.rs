//! The comparison itself: it is silent about equal servers, and notices each fault. No real server is needed for that.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use fv_conformance::corpus::{self, Sequence};
use fv_conformance::known::Known;
use fv_conformance::mutation::Mutation;
use fv_conformance::run;
use fv_conformance::servers::Ours;

fn sequences(theme: &str) -> Vec<Sequence> {
    let all = corpus::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap();
    let chosen: Vec<Sequence> = all.into_iter().filter(|s| s.name.starts_with(theme)).collect();
    assert!(!chosen.is_empty(), "no sequence of {theme}");
    chosen
}

async fn differences(theme: &str, mutation: Option<Mutation>) -> String {
    let (left, right) = tokio::try_join!(Ours::start(mutation), Ours::start(None)).unwrap();
    let outcomes = run::corpus(left.client(), right.client(), sequences(theme)).await.unwrap();
    run::unexplained(&outcomes, &Known::default()).iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_of_ours_do_not_differ() {
    for theme in ["update/", "crd_objects/"] {
        assert_eq!(differences(theme, None).await, "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_conflict_is_noticed() {
    let found = differences(Mutation::DropConflict.theme(), Some(Mutation::DropConflict)).await;
    assert!(found.contains("put with a stale revision conflicts step 3"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skipped_pruning_is_noticed() {
    let found = differences(Mutation::SkipPruning.theme(), Some(Mutation::SkipPruning)).await;
    assert!(found.contains("crd_objects/pruning step 1"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_watch_event_is_noticed() {
    let found = differences(Mutation::LoseWatchEvent.theme(), Some(Mutation::LoseWatchEvent)).await;
    assert!(found.contains("watch/create, change, delete step 6"), "{found}");
}
