//! Statistics of one domain. The `virt` crate only asks for those of all domains in one call, which one stuck guest would hold up.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::ptr;

use virt::domain::Domain;
use virt_sys as sys;

use crate::stats::{DomainStats, StatValue};

/// Reads the statistics without waiting for a job of the domain; libvirt leaves out what it would have to wait for. QEMU itself is
/// asked nevertheless: the call hangs as long as QEMU does.
pub(super) fn read(domain: &Domain) -> Result<DomainStats, virt::error::Error> {
    let wanted = sys::VIR_DOMAIN_STATS_BALLOON | sys::VIR_DOMAIN_STATS_VCPU | sys::VIR_DOMAIN_STATS_BLOCK;
    let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
    let mut domains = [domain.as_ptr(), ptr::null_mut()];
    let mut records: *mut sys::virDomainStatsRecordPtr = ptr::null_mut();
    // SAFETY: the list of domains ends with a null pointer and its one element is a domain that we hold; libvirt writes a list of
    // its own into `records`.
    let count = unsafe { sys::virDomainListGetStats(domains.as_mut_ptr(), wanted, &raw mut records, flags) };
    let Ok(count) = usize::try_from(count) else { return Err(virt::error::Error::last_error()) };
    let mut values = Vec::new();
    for index in 0..count {
        // SAFETY: libvirt gave us `count` records, each with `nparams` parameters, which live until the list is freed below.
        let parameters = unsafe {
            let record = &**records.add(index);
            let length = usize::try_from(record.nparams).unwrap_or_default();
            if length == 0 { &[][..] } else { std::slice::from_raw_parts(record.params, length) }
        };
        values.extend(parameters.iter().filter_map(value));
    }
    // SAFETY: the list is libvirt's and is freed once; nothing borrowed from it is left.
    unsafe { sys::virDomainStatsRecordListFree(records) };
    Ok(DomainStats::parse(&values))
}

/// A parameter's name and value; `None` for kinds that no statistic of ours has.
fn value(parameter: &sys::virTypedParameter) -> Option<(String, StatValue)> {
    // SAFETY: libvirt ends the name with a zero byte within its array.
    let name = unsafe { CStr::from_ptr(parameter.field.as_ptr()) }.to_string_lossy().into_owned();
    let value = parameter.value;
    // SAFETY: `type_` says which member of the union is set; a text ends with a zero byte.
    let value = unsafe {
        match u32::try_from(parameter.type_).ok()? {
            sys::VIR_TYPED_PARAM_INT => StatValue::Number(u64::try_from(value.i).ok()?),
            sys::VIR_TYPED_PARAM_UINT => StatValue::Number(value.ui.into()),
            sys::VIR_TYPED_PARAM_LLONG => StatValue::Number(u64::try_from(value.l).ok()?),
            sys::VIR_TYPED_PARAM_ULLONG => StatValue::Number(value.ul),
            sys::VIR_TYPED_PARAM_STRING if !value.s.is_null() => {
                StatValue::Text(CStr::from_ptr(value.s).to_string_lossy().into_owned())
            }
            _ => return None,
        }
    };
    Some((name, value))
}
