//! Pods: defaults, columns, logs.

use crate::harness::Served;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: main, image: example.com/a, ports: [{containerPort: 80}]}
  - {name: side, image: "example.com/b:1"}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_have_defaults_and_the_usual_columns() {
    let served = Served::start().await;
    served.run_with(&["create", "-f", "-"], POD).await.out();
    let path = "jsonpath={.spec.restartPolicy} {.spec.terminationGracePeriodSeconds} {.spec.containers[*].imagePullPolicy} \
                {.spec.containers[0].ports[0].protocol} {.status.phase}";
    let said = served.run(&["get", "pod", "p", "-o", path]).await.out();
    assert_eq!(said, "Always 30 Always IfNotPresent TCP Pending");
    let wide = served.run(&["get", "pods", "-o", "wide"]).await.out();
    let words: Vec<Vec<&str>> = wide.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(words[0].join(" "), "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES");
    assert_eq!(words[1][..4], ["p", "0/2", "Pending", "0"]);
    assert_eq!(words[1][5..], ["<none>", "<none>", "<none>", "<none>"]);
    let status = r#"{"status":{"phase":"Running","podIP":"10.1.2.3","podIPs":[{"ip":"10.1.2.3"}],"containerStatuses":[
        {"name":"main","ready":true,"restartCount":2,"image":"a","imageID":"","state":{"running":{}},
         "lastState":{"terminated":{"exitCode":1,"finishedAt":"2020-01-01T00:00:00Z"}}},
        {"name":"side","ready":false,"restartCount":0,"image":"b","imageID":"","state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}}"#;
    served.patch_status("pods", "p", status).await;
    let row = served.run(&["get", "pods", "--no-headers"]).await.out();
    assert!(row.contains("1/2") && row.contains("CrashLoopBackOff") && row.contains("2 ("), "{row}");
    let described = served.run(&["describe", "pod", "p"]).await.out();
    assert!(described.contains("CrashLoopBackOff") && described.contains("IP:           10.1.2.3"), "{described}");
    let immutable = served.run(&["patch", "pod", "p", "--type=merge", "-p", r#"{"spec":{"hostNetwork":true}}"#]).await;
    assert!(immutable.refused().contains("pod updates may not change fields other than"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_reach_kubectl() {
    let served = Served::start().await;
    let bound = POD.replace("spec:\n", "spec:\n  nodeName: node-1\n");
    served.run_with(&["create", "-f", "-"], &bound).await.out();
    let log = served.run(&["logs", "p", "-c", "side", "--tail=5"]).await.out();
    assert_eq!(log, "p/side tail=Some(5)\nsecond\n");
    let wrong = served.run(&["logs", "p", "-c", "none"]).await.refused();
    assert!(wrong.contains("container none is not valid for pod p"), "{wrong}");
    let missing = served.run(&["logs", "q"]).await.refused();
    assert!(missing.contains("pods \"q\" not found"), "{missing}");
}
