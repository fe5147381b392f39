//! How long the API server may take to answer: whoever asked us waits, and what the request holds is held.

use std::time::Duration;

use kube::core::Status;

const ANSWER: Duration = Duration::from_secs(10);

/// The API server's answer to `call`.
///
/// # Errors
/// Its own, and one with code 504 when it does not answer in time. Whether it did what it was asked is then unknown.
pub(crate) async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(answer) => answer,
        Err(_) => {
            let why = format!("the API server did not answer within {} s: please try again", ANSWER.as_secs());
            Err(kube::Error::Api(Status::failure(&why, "Timeout").with_code(504).boxed()))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use kube::Client;
    use kube::client::Body;

    use super::*;

    /// A client whose API server takes requests and answers none.
    pub(crate) fn silent() -> Client {
        let service = tower::service_fn(|_: http::Request<Body>| pending::<Result<http::Response<Body>, Infallible>>());
        Client::new(service, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_in_time_is_passed_on_and_one_that_does_not_is_code_504() {
        let late = async |seconds| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(seconds)
        };
        assert_eq!(within(late(9)).await.unwrap(), 9);
        match within(late(11)).await {
            Err(kube::Error::Api(status)) => assert_eq!((status.code, status.reason.as_str()), (504, "Timeout")),
            other => panic!("{other:?}"),
        }
    }
}
