# shellcheck shell=bash
# What components were allowed and never used; what they were denied.
cargo xtask rights --audit "$work/audit.json" --access "$work/access.json"
passed "components have the rights they use, and no other"
