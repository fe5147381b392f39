//! What our programs say of themselves under upstream's names.

use crate::Program;

pub use api::*;
pub use controller::*;
pub use every::*;
pub use handler::*;
pub use operator::*;

pub(super) const PARTS: [&[&crate::Definition]; 5] =
    [api::ALL, controller::ALL, every::ALL, handler::ALL, operator::ALL];

mod api {
    use super::Program;
    crate::definition::definitions! { &[Program::Api];
        API_READY: Gauge "kubevirt_virt_api_ready_status" &[], "1 while virt-api serves requests.";
    }
}

mod controller {
    use super::Program;
    const QUEUE: &[&str] = &["name"];
    crate::definition::definitions! { &[Program::Controller];
        CONTROLLER_READY: Gauge "kubevirt_virt_controller_ready_status" &[], "1 while this virt-controller could lead.";
        CONTROLLER_LEADING: Gauge "kubevirt_virt_controller_leading_status" &[], "1 while this virt-controller leads.";
        QUEUE_DEPTH: Gauge "kubevirt_workqueue_depth" QUEUE, "Objects that wait to be looked at.";
        QUEUE_ADDS: Counter "kubevirt_workqueue_adds_total" QUEUE, "Objects that were put into the queue.";
        QUEUE_RETRIES: Counter "kubevirt_workqueue_retries_total" QUEUE, "Objects put into the queue again because their turn failed.";
        QUEUE_WAIT: Histogram "kubevirt_workqueue_queue_duration_seconds" QUEUE, "Time objects waited in the queue.";
        QUEUE_WORK: Histogram "kubevirt_workqueue_work_duration_seconds" QUEUE, "Time a turn took.";
        QUEUE_UNFINISHED: Gauge "kubevirt_workqueue_unfinished_work_seconds" QUEUE,
            "Time that turns under way have taken so far, added up.";
        QUEUE_LONGEST: Gauge "kubevirt_workqueue_longest_running_processor_seconds" QUEUE,
            "Time that the longest turn under way has taken so far.";
    }
}

mod handler {
    use super::Program;
    crate::definition::definitions! { &[Program::Handler];
        HANDLER_READY: Gauge "kubevirt_virt_handler_ready_status" &[], "1 while this virt-handler looks after its node.";
    }
}

mod operator {
    use super::Program;
    crate::definition::definitions! { &[Program::Operator];
        OPERATOR_READY: Gauge "kubevirt_virt_operator_ready_status" &[], "1 while this virt-operator could lead.";
        OPERATOR_LEADING: Gauge "kubevirt_virt_operator_leading_status" &[], "1 while this virt-operator leads.";
    }
}

mod every {
    use super::Program;
    crate::definition::definitions! { Program::ALL;
        INFO: Gauge "kubevirt_info" &["goversion", "kubeversion"],
            "Version of this program in label kubeversion; always 1. There is no Go in it.";
        REST_REQUESTS: Counter "kubevirt_rest_client_requests_total" &["code", "method", "host", "resource", "verb"],
            "Requests to the API server. Code <error>: there was no answer.";
        REST_LATENCY: Histogram "kubevirt_rest_client_request_latency_seconds" &["verb", "url"],
            "Time until the API server began to answer. Label url has no names of objects or namespaces.";
    }
}

/// Buckets of the queues' times.
pub const QUEUE_BUCKETS: &[f64] = &[1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 60.0];
/// Buckets of the time of requests.
pub const REST_BUCKETS: &[f64] = &[0.001, 0.004, 0.016, 0.064, 0.256, 1.0, 4.0, 15.0, 60.0];
