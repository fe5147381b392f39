//! The comparison.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::grants::{Grants, Right};
use super::usage::Usage;

/// The account of the operator, which has what it hands out.
const OPERATOR: &str = "kubevirt-operator";

/// What people reviewed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reviewed {
    /// Rights that a run need not use.
    #[serde(default)]
    unused: Vec<Explained>,
    /// Rights that a component must not have, whatever it does.
    #[serde(default)]
    never: Vec<Rule>,
}

/// Rights and why they are there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Explained {
    account: String,
    #[serde(default)]
    group: String,
    resources: Vec<String>,
    verbs: Vec<String>,
    reason: String,
}

/// Rights, with any verb.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    account: String,
    #[serde(default)]
    group: String,
    resources: Vec<String>,
}

impl Explained {
    fn covers(&self, account: &str, right: &Right) -> bool {
        self.account == account
            && self.group == right.group
            && self.resources.contains(&right.resource)
            && self.verbs.contains(&right.verb)
    }

    /// Verbs on resources that nobody has: `account: verb resource`.
    fn stale(&self, grants: &Grants) -> Vec<String> {
        let rights = grants.accounts.get(&self.account);
        let has = |resource: &String, verb: &String| {
            let is = |right: &Right| (&right.group, &right.resource, &right.verb) == (&self.group, resource, verb);
            rights.is_some_and(|rights| rights.iter().any(is))
        };
        let pairs = self.resources.iter().flat_map(|resource| self.verbs.iter().map(move |verb| (resource, verb)));
        let stale = pairs.filter(|(resource, verb)| !has(resource, verb));
        stale.map(|(resource, verb)| format!("{}: {verb} {resource}", self.account)).collect()
    }
}

/// What came out.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    /// For people.
    pub(super) report: String,
    /// Why the check fails; none when it does not.
    pub(super) faults: Vec<String>,
}

/// Compares what accounts may with what they did.
pub(super) fn judge(grants: &Grants, usage: &Usage, reviewed: &Reviewed) -> Verdict {
    let (mut report, mut faults) = (Vec::new(), Vec::new());
    for (account, rights) in &grants.accounts {
        let done = usage.done.get(account);
        let is_used = |right: &Right| done.is_some_and(|done| done.iter().any(|request| request.uses(right)));
        let is_handed_out = |right: &Right| account == OPERATOR && grants.handed_out.contains(right);
        let unused: BTreeSet<&Right> = rights.iter().filter(|right| !is_used(right) && !is_handed_out(right)).collect();
        report.push(format!("{account}: {} rights, {} not used", rights.len(), unused.len()));
        for right in unused {
            match reviewed.unused.iter().find(|entry| entry.covers(account, right)) {
                Some(entry) => report.push(format!("  {right}: {}", entry.reason)),
                None => faults.push(format!("{account} may {right}, and nothing used it")),
            }
        }
    }
    for (account, requests) in &usage.denied {
        let denied = requests.iter().map(|request| {
            format!(
                "{account} was denied: {} {} ({}) {}/{}",
                request.verb, request.resource, request.group, request.namespace, request.name
            )
        });
        faults.extend(denied);
    }
    for entry in &reviewed.unused {
        faults.extend(entry.stale(grants).iter().map(|pair| format!("{pair} is explained, and nobody may it")));
    }
    for rule in &reviewed.never {
        let rights = grants.accounts.get(&rule.account).into_iter().flatten();
        let held = rights.filter(|right| right.group == rule.group && rule.resources.contains(&right.resource));
        faults.extend(held.map(|right| format!("{} may {right}, which it never must", rule.account)));
    }
    Verdict { report: report.join("\n"), faults }
}
