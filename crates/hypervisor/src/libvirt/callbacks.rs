//! libvirt's event loop and callbacks. The `virt` crate wraps neither domain events nor the
//! close callback.
//!
//! Callbacks run on the event-loop thread, where libvirt must not be called (it would wait for itself): they copy what they are
//! given and hand it to a [`Sink`], which must not block.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Arc, Once};
use std::time::Duration;

use uuid::Uuid;
use virt::connect::Connect;
use virt_sys as sys;

use super::translate::RawEvent;

/// Takes what callbacks report. Called on the event-loop thread.
pub(super) type Sink = Arc<dyn Fn(Report) + Send + Sync>;

/// What a callback reports.
#[derive(Debug)]
pub(super) enum Report {
    Domain { uuid: Uuid, event: RawEvent },
    Closed { reason: &'static str },
}

/// Starts libvirt's default event loop on a thread of its own, once per process, before the first connection is opened.
pub(super) fn start_event_loop() {
    static START: Once = Once::new();
    START.call_once(|| {
        // libvirt prints every error to standard error otherwise; ours are returned.
        virt::error::clear_error_callback();
        if let Err(error) = virt::event::event_register_default_impl() {
            tracing::error!(%error, "no libvirt event loop: no events will be heard");
            return;
        }
        let spawned = std::thread::Builder::new().name("libvirt-events".into()).spawn(|| {
            loop {
                if let Err(error) = virt::event::event_run_default_impl() {
                    tracing::warn!(%error, "libvirt event loop");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for libvirt's event loop: no events will be heard");
        }
    });
}

/// The callbacks registered on one connection.
#[derive(Debug, Default)]
pub(super) struct Registration {
    ids: Vec<c_int>,
}

/// Registers all callbacks; each holds its own reference to `sink` until libvirt frees it.
pub(super) fn register(connect: &Connect, sink: &Sink) -> Result<Registration, virt::error::Error> {
    let mut registration = Registration { ids: Vec::new() };
    // SAFETY: libvirt stores callbacks of every event id as the generic type and calls them with the signature that belongs to
    // the id they were registered for; the functions below have exactly those signatures (libvirt-domain.h).
    let callbacks: [(sys::virDomainEventID, sys::virConnectDomainEventGenericCallback); 5] = unsafe {
        use std::mem::transmute;
        [
            (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, Some(transmute::<LifecycleFn, GenericFn>(on_lifecycle))),
            (sys::VIR_DOMAIN_EVENT_ID_REBOOT, Some(on_reboot)),
            (sys::VIR_DOMAIN_EVENT_ID_WATCHDOG, Some(transmute::<StateFn, GenericFn>(on_watchdog))),
            (sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, Some(transmute::<IoErrorFn, GenericFn>(on_io_error))),
            (sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, Some(transmute::<AgentFn, GenericFn>(on_agent))),
        ]
    };
    for (id, callback) in callbacks {
        let opaque = into_opaque(sink);
        let Ok(id) = c_int::try_from(id) else { continue };
        // SAFETY: the connection is open (we hold it); `opaque` is a box that `free_sink` takes back when libvirt drops the
        // callback. A null domain means all domains.
        let number = unsafe {
            sys::virConnectDomainEventRegisterAny(
                connect.as_ptr(),
                std::ptr::null_mut(),
                id,
                callback,
                opaque,
                Some(free_sink),
            )
        };
        if number < 0 {
            let error = virt::error::Error::last_error();
            // SAFETY: libvirt refused the callback and so does not own the box.
            unsafe { free_sink(opaque) };
            deregister(connect, registration);
            return Err(error);
        }
        registration.ids.push(number);
    }
    let opaque = into_opaque(sink);
    // SAFETY: as above.
    let result =
        unsafe { sys::virConnectRegisterCloseCallback(connect.as_ptr(), Some(on_close), opaque, Some(free_sink)) };
    if result < 0 {
        let error = virt::error::Error::last_error();
        // SAFETY: libvirt refused the callback and so does not own the box.
        unsafe { free_sink(opaque) };
        deregister(connect, registration);
        return Err(error);
    }
    Ok(registration)
}

/// Takes all callbacks back. On a dead connection this fails, and closing it frees them.
pub(super) fn deregister(connect: &Connect, registration: Registration) {
    // SAFETY: the connection is open as far as we are concerned (we hold it), the ids are its own.
    unsafe {
        sys::virConnectUnregisterCloseCallback(connect.as_ptr(), Some(on_close));
        for id in registration.ids {
            sys::virConnectDomainEventDeregisterAny(connect.as_ptr(), id);
        }
    }
}

/// Takes all callbacks back and closes the connection, on a thread: libvirtd is asked and may take its time. Nobody may use
/// `connect` afterwards.
pub(super) fn close(connect: &Connect, registration: Registration) {
    // SAFETY: the pointer is valid; this handle takes over the one reference `connect` stood for (`Connect` has no `Drop`).
    let mut connect = unsafe { Connect::from_ptr(connect.as_ptr()) };
    let spawned = std::thread::Builder::new().name("libvirt-close".into()).spawn(move || {
        deregister(&connect, registration);
        let _ = connect.close();
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread to close a libvirt connection: it stays open");
    }
}

type GenericFn = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
type LifecycleFn = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type StateFn = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *mut c_void);
type AgentFn = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);
type IoErrorFn = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    *const c_char,
    c_int,
    *const c_char,
    *mut c_void,
);

fn into_opaque(sink: &Sink) -> *mut c_void {
    Box::into_raw(Box::new(Arc::clone(sink))).cast()
}

unsafe extern "C" fn free_sink(opaque: *mut c_void) {
    // SAFETY: made by `into_opaque`, freed once.
    drop(unsafe { Box::from_raw(opaque.cast::<Sink>()) });
}

/// # Safety
/// `domain` is what libvirt gave to the running callback, `opaque` comes from `into_opaque` and is not freed yet.
unsafe fn report(domain: sys::virDomainPtr, opaque: *mut c_void, event: RawEvent) {
    let mut bytes = [0u8; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: reading the uuid of a domain object is local to the client; the buffer has the size the call writes.
    if unsafe { sys::virDomainGetUUID(domain, bytes.as_mut_ptr()) } < 0 {
        return;
    }
    // SAFETY: as promised by the caller.
    let sink = unsafe { &*opaque.cast::<Sink>() };
    sink(Report::Domain { uuid: Uuid::from_bytes(bytes), event });
}

/// # Safety
/// `text` is null or a string that lives as long as the callback runs.
unsafe fn copy(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: the arguments are libvirt's and ours, see `report`.
    unsafe { report(domain, opaque, RawEvent::Lifecycle { event, detail }) };
    0
}

unsafe extern "C" fn on_reboot(_: sys::virConnectPtr, domain: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: see `on_lifecycle`.
    unsafe { report(domain, opaque, RawEvent::Reboot) };
}

unsafe extern "C" fn on_watchdog(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _action: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: see `on_lifecycle`.
    unsafe { report(domain, opaque, RawEvent::Watchdog) };
}

unsafe extern "C" fn on_io_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    path: *const c_char,
    _alias: *const c_char,
    _action: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: see `on_lifecycle`; the strings live until the callback returns.
    unsafe { report(domain, opaque, RawEvent::IoError { path: copy(path), reason: copy(reason) }) };
}

unsafe extern "C" fn on_agent(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    state: c_int,
    _reason: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: see `on_lifecycle`.
    unsafe { report(domain, opaque, RawEvent::Agent { state }) };
}

unsafe extern "C" fn on_close(_: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    // SAFETY: `opaque` comes from `into_opaque` and is not freed yet.
    let sink = unsafe { &*opaque.cast::<Sink>() };
    let reason = match u32::try_from(reason) {
        Ok(sys::VIR_CONNECT_CLOSE_REASON_EOF) => "libvirtd closed it",
        Ok(sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE) => "libvirtd does not answer",
        Ok(sys::VIR_CONNECT_CLOSE_REASON_CLIENT) => "closed by us",
        _ => "input/output error",
    };
    sink(Report::Closed { reason });
}
