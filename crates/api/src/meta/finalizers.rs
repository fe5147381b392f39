//! Finalizers.
pub const VIRTUAL_MACHINE: &str = "kubevirt.io/virtualMachineControllerFinalize";
pub const VIRTUAL_MACHINE_INSTANCE: &str = "kubevirt.io/foregroundDeleteVirtualMachine";
/// Name of [`VIRTUAL_MACHINE_INSTANCE`] in old releases; removed wherever it is found.
pub const VIRTUAL_MACHINE_INSTANCE_OLD: &str = "foregroundDeleteVirtualMachine";
