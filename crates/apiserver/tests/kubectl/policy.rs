//! `auth`, storage and policy kinds.

use crate::harness::Served;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_says_who_asks_and_that_everything_is_allowed() {
    let served = Served::start().await;
    assert_eq!(served.run(&["auth", "can-i", "create", "pods"]).await.out().trim(), "yes");
    assert_eq!(served.run(&["auth", "can-i", "get", "/healthz"]).await.out().trim(), "yes");
    let list = served.run(&["auth", "can-i", "--list"]).await.out();
    assert!(list.contains("*.*"), "{list}");
    if served.since(28) {
        let me = served.run(&["auth", "whoami"]).await.out();
        assert!(me.contains("Username") && me.contains("system:masters"), "{me}");
    }
    if served.since(24) {
        served.run(&["create", "serviceaccount", "a"]).await.out();
        let refused = served.run(&["create", "token", "a"]).await.refused();
        assert!(refused.contains("issues no tokens"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_kinds_are_made_by_kubectls_own_verbs() {
    let served = Served::start().await;
    served.run(&["create", "quota", "q", "--hard=pods=2,requests.cpu=1"]).await.out();
    served.run(&["create", "priorityclass", "high", "--value=100"]).await.out();
    served.run(&["create", "poddisruptionbudget", "b", "--selector=app=x", "--min-available=1"]).await.out();
    let described = served.run(&["describe", "quota", "q"]).await.out();
    assert!(described.contains("Name:"), "{described}");
    let classes = served.run(&["get", "pc"]).await.out();
    for name in ["high", "system-node-critical", "system-cluster-critical"] {
        assert!(classes.contains(name), "{name} is not in\n{classes}");
    }
    let budget = served.run(&["get", "pdb", "b"]).await.out();
    assert!(budget.contains("MIN AVAILABLE") && budget.contains("N/A"), "{budget}");
    let explained = served.run(&["explain", "pvc.spec.resources.requests"]).await.out();
    assert!(explained.contains("requests"), "{explained}");
}
