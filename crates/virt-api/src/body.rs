//! Bodies of subresource requests: JSON or YAML, empty means all defaults.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// Reads the options of a request.
///
/// # Errors
/// 400 with upstream's words when the body is neither JSON nor YAML of the type.
pub fn decode<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    let malformed =
        |why: String| ApiError::bad_request(format!("Can not unmarshal Request body to struct, error: {why}"));
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let text = std::str::from_utf8(body).map_err(|e| malformed(e.to_string()))?;
    serde_saphyr::from_str(text).map_err(|e| malformed(e.to_string()))
}

/// Whether `dryRun` asks to change nothing (`["All"]`).
pub fn is_dry_run(values: &[String]) -> bool {
    values.iter().any(|v| v == "All")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fv_api::StopOptions;

    #[test]
    fn empty_json_and_yaml_bodies_are_read() {
        let options: StopOptions = decode(&Bytes::from_static(b"")).unwrap();
        assert_eq!(options.grace_period, None);
        let options: StopOptions = decode(&Bytes::from_static(br#"{"gracePeriod": 3}"#)).unwrap();
        assert_eq!(options.grace_period, Some(3));
        let options: StopOptions = decode(&Bytes::from_static(b"gracePeriod: 4\n")).unwrap();
        assert_eq!(options.grace_period, Some(4));
    }

    #[test]
    fn a_malformed_body_is_refused_in_upstreams_words() {
        for body in [&b"{\"gracePeriod\": \"x\"}"[..], b"[", b"\xff\xfe"] {
            let error = decode::<StopOptions>(&Bytes::copy_from_slice(body)).unwrap_err();
            assert_eq!(error.code, 400);
            assert!(
                error.message.starts_with("Can not unmarshal Request body to struct, error: "),
                "{}",
                error.message
            );
        }
    }
}
