//! The committed KubeVirt definitions, as users meet them.

use crate::harness::Served;

const MACHINES: &str = include_str!("../../../../manifests/crds/virtualmachines.yaml");
const INSTANCES: &str = include_str!("../../../../manifests/crds/virtualmachineinstances.yaml");

const VM: &str = r#"
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: vm}
spec:
  running: false
  template:
    spec:
      domain:
        devices: {disks: [{name: d, disk: {bus: virtio}}]}
        resources: {requests: {memory: 64M}}
      volumes: [{name: d, containerDisk: {image: demo}}]
"#;

/// What generators and people write: nulls, empty status, quantities and resources as bare numbers.
const HABITUAL: &str = r#"
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: habitual, creationTimestamp: null, annotations: {note: "1"}}
spec:
  runStrategy: Halted
  template:
    metadata: {creationTimestamp: null, labels: {a: b}}
    spec:
      terminationGracePeriodSeconds: 0
      domain:
        cpu: {cores: 1}
        devices:
          interfaces: [{name: default, masquerade: {}, ports: [{port: 22}]}]
          disks: [{name: d, disk: {bus: virtio}, bootOrder: 1}]
          rng: {}
        resources: {requests: {memory: 67108864, cpu: 1}, limits: {cpu: "500m"}}
      networks: [{name: default, pod: {}}]
      volumes: [{name: d, emptyDisk: {capacity: 1000000}}]
      readinessProbe: {tcpSocket: {port: 22}}
status: {}
"#;

async fn with_kubevirt() -> Served {
    let served = Served::start().await;
    for definition in [MACHINES, INSTANCES] {
        let said = served.run_with(&["create", "-f", "-"], definition).await;
        assert!(said.ok, "{said:?}");
    }
    let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=10s"];
    served.run(&wait).await.out();
    served
}

/// Old kubectls check manifests themselves, by what OpenAPI v2 can say of the schemas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examples_and_habitual_manifests_pass_every_check() {
    let served = with_kubevirt().await;
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let said = served.run(&["apply", "-f", examples]).await;
    assert!(said.ok && said.err.is_empty(), "{said:?}");
    assert!(said.out.lines().count() >= 6 && said.out.lines().all(|l| l.ends_with(" created")), "{said:?}");
    let again = served.run(&["apply", "-f", examples]).await.out();
    assert!(again.lines().all(|l| l.ends_with(" unchanged")), "{again}");
    let said = served.run_with(&["apply", "-f", "-"], HABITUAL).await.out();
    assert_eq!(said, "virtualmachine.kubevirt.io/habitual created\n");
    let edited = HABITUAL.replace("cores: 1", "cores: 2").replace("annotations: {note: \"1\"}", "labels: {c: d}");
    let said = served.run_with(&["apply", "-f", "-"], &edited).await.out();
    assert_eq!(said, "virtualmachine.kubevirt.io/habitual configured\n");
    let path = "jsonpath={.spec.template.spec.domain.cpu.cores} {.metadata.labels.c} {.metadata.annotations.note}";
    assert_eq!(served.run(&["get", "vm", "habitual", "-o", path]).await.out(), "2 d ");
    let described = served.run(&["describe", "vm", "habitual"]).await.out();
    assert!(described.contains("Run Strategy:  Halted"), "{described}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn virtual_machines_are_served_explained_and_checked() {
    let served = with_kubevirt().await;
    served.run_with(&["apply", "-f", "-"], VM).await.out();
    assert_eq!(served.run_with(&["apply", "-f", "-"], VM).await.out(), "virtualmachine.kubevirt.io/vm unchanged\n");
    let table = served.run(&["get", "vms,vmis"]).await.out();
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NAME", "AGE", "STATUS", "READY"]
    );
    let explained = served.run(&["explain", "vm.spec.template.spec.domain.devices.disks"]).await.out();
    assert!(explained.contains("bootOrder") && explained.contains("-required-"), "{explained}");
    let explained = served.run(&["explain", "vm.spec.template.spec.domain.cpu.cores"]).await.out();
    assert!(explained.contains("Cores of each socket; 1 when absent."), "{explained}");
    let old = served.run(&["get", "virtualmachines.v1alpha3.kubevirt.io", "vm", "-o", "jsonpath={.apiVersion}"]).await;
    assert_eq!(old.out(), "kubevirt.io/v1alpha3");
    let typo = VM.replace("bus: virtio", "buss: virtio").replace("name: vm", "name: typo");
    let error = served.run_with(&["create", "-f", "-"], &typo).await.refused();
    assert!(error.contains("unknown field") && error.contains("buss") && error.contains("disks[0].disk"), "{error}");
    let wrong = VM.replace("running: false", "running: maybe").replace("name: vm", "name: wrong");
    let error = served.run_with(&["create", "--validate=false", "-f", "-"], &wrong).await.refused();
    assert!(error.contains("spec.running in body must be of type boolean"), "{error}");
}
