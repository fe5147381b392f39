//! expose: a Service in front of a guest.

use anyhow::{anyhow, bail};
use fv_api::VirtualMachineInstanceSpec;
use fv_api::meta::labels::VMI_ID;
use fv_api::{VirtualMachine, VirtualMachineInstance};
use http::Method;
use kube::Api;
use serde_json::{Map, Value, json};

use super::target::Kind;
use crate::cli::Expose;
use crate::connect::Session;
use crate::output::say;
use crate::subresource::{escape, plain, send};

pub(super) async fn run(session: &Session, options: &Expose) -> anyhow::Result<()> {
    let kind = Kind::parse(&options.kind)?;
    let spec = match kind {
        Kind::Vm => {
            let vms = Api::<VirtualMachine>::namespaced(session.client.clone(), &session.namespace);
            let vm = vms.get(&options.target).await;
            vm.map_err(|e| anyhow!("error fetching VirtualMachine: {}", plain(e)))?
                .spec
                .template
                .spec
                .unwrap_or_default()
        }
        Kind::Vmi => {
            let vmis = Api::<VirtualMachineInstance>::namespaced(session.client.clone(), &session.namespace);
            let vmi = vmis.get(&options.target).await;
            vmi.map_err(|e| anyhow!("error fetching VirtualMachineInstance: {}", plain(e)))?.spec
        }
    };
    let service = service(options, &spec)?;
    let path = format!("/api/v1/namespaces/{}/services", escape(&session.namespace));
    let made = send(&session.client, Method::POST, &path, Some(&service)).await;
    made.map_err(|e| match e.to_string().as_str() {
        // What is said of a path that no API has.
        "the server could not find the requested resource" => anyhow!(
            "service creation failed: this server has no Services (the embedded API of one machine has none): \
             use virtctl port-forward, or the guest's address in 'kubectl get vmi {}'",
            options.target
        ),
        error => anyhow!("service creation failed: {error}"),
    })?;
    say(&format!("Service {} successfully exposed for {} {}", options.name, options.kind, options.target));
    Ok(())
}

/// The Service, before the server's defaults. A port that is not given comes from the interface on the pod's network, as upstream's.
fn service(options: &Expose, spec: &VirtualMachineInstanceSpec) -> anyhow::Result<Value> {
    let ports = match options.port {
        Some(port) => {
            let mut entry = Map::from_iter([
                ("port".to_owned(), port.into()),
                ("protocol".to_owned(), options.protocol.word().into()),
                ("targetPort".to_owned(), options.target_port.as_deref().map_or_else(|| port.into(), target_port)),
            ]);
            if let Some(name) = &options.port_name {
                entry.insert("name".into(), name.as_str().into());
            }
            vec![Value::Object(entry)]
        }
        None => ports_of_pod_network(spec),
    };
    if ports.is_empty() {
        bail!("couldn't find port via --port flag or introspection: give --port");
    }
    let mut of = json!({
        "ports": ports,
        "selector": {VMI_ID: fv_render::names::vmi_id(&options.target)},
        "type": options.service_type.word(),
    });
    if let Some(address) = &options.cluster_ip {
        of["clusterIP"] = address.as_str().into();
    }
    if let Some(address) = &options.external_ip {
        of["externalIPs"] = json!([address]);
    }
    if let Some(families) = options.ip_family {
        of["ipFamilies"] = families.words().into();
    }
    if let Some(policy) = options.ip_family_policy {
        of["ipFamilyPolicy"] = policy.word().into();
    }
    Ok(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": options.name}, "spec": of}))
}

/// A number or the name of a port.
fn target_port(word: &str) -> Value {
    word.parse::<u16>().map_or_else(|_| word.into(), Value::from)
}

/// The ports that the interface on the pod's network lists. Several need names, which only their places give for sure.
fn ports_of_pod_network(spec: &VirtualMachineInstanceSpec) -> Vec<Value> {
    let Some(network) = spec.networks.iter().find(|network| network.pod.is_some()) else { return Vec::new() };
    let interfaces = spec.domain.devices.interfaces.iter().filter(|interface| interface.name == network.name);
    let ports = interfaces.flat_map(|interface| &interface.ports).enumerate();
    ports
        .map(|(place, port)| {
            let protocol = port.protocol.as_deref().filter(|word| !word.is_empty()).unwrap_or("TCP");
            json!({"name": format!("port-{}", place + 1), "port": port.port, "protocol": protocol})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};

    fn options(line: &str) -> Expose {
        use clap::Parser;
        let cli = Cli::try_parse_from(format!("virtctl expose vm web {line}").split_whitespace());
        match cli.map(|cli| cli.command) {
            Ok(Command::Expose(options)) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn spec(ports: &Value) -> VirtualMachineInstanceSpec {
        let interfaces = json!([
            {"name": "other", "bridge": {}, "ports": [{"port": 1}]},
            {"name": "default", "masquerade": {}, "ports": ports}
        ]);
        let networks = json!([{"name": "other", "multus": {"networkName": "x"}}, {"name": "default", "pod": {}}]);
        serde_json::from_value(json!({"domain": {"devices": {"interfaces": interfaces}}, "networks": networks}))
            .unwrap()
    }

    #[test]
    fn flags_become_the_service() {
        let made = |line: &str| service(&options(line), &spec(&json!([]))).unwrap()["spec"].clone();
        let selector = json!({"vmi.kubevirt.io/id": "web"});
        assert_eq!(
            made("--name s --port 80"),
            json!({"selector": selector, "type": "ClusterIP", "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]})
        );
        assert_eq!(
            made(
                "--name s --port 53 --target-port dns --port-name dns --protocol UDP --type NodePort --cluster-ip 10.0.0.9 \
                 --external-ip 192.0.2.1 --ip-family ipv6,ipv4 --ip-family-policy PreferDualStack"
            ),
            json!({"selector": selector, "type": "NodePort", "clusterIP": "10.0.0.9", "externalIPs": ["192.0.2.1"],
                "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "PreferDualStack",
                "ports": [{"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"}]})
        );
    }

    #[test]
    fn ports_not_given_are_those_of_the_interface_on_the_pods_network() {
        let ports = json!([{"port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
        let made = service(&options("--name s"), &spec(&ports)).unwrap();
        let expected = json!([
            {"name": "port-1", "port": 80, "protocol": "TCP"},
            {"name": "port-2", "port": 53, "protocol": "UDP"}
        ]);
        assert_eq!(made["spec"]["ports"], expected);
        let error = service(&options("--name s"), &spec(&json!([]))).unwrap_err().to_string();
        assert_eq!(error, "couldn't find port via --port flag or introspection: give --port");
    }

    #[test]
    fn a_long_name_is_selected_by_the_label_its_pod_has() {
        let mut long = options("--name s --port 80");
        long.target = "x".repeat(70);
        let id = service(&long, &spec(&json!([]))).unwrap()["spec"]["selector"][VMI_ID].clone();
        assert_eq!(id, fv_render::names::vmi_id(&long.target).as_str());
        assert_eq!(id.as_str().map(str::len), Some(63));
    }
}
