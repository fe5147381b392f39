use proptest::prelude::*;

use super::*;

fn q(text: &str) -> Quantity {
    Quantity::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Input, canonical output, whole units (rounded up): what Kubernetes' own quantity gives.
const TABLE: &[(&str, &str, i128)] = &[
    ("0", "0", 0),
    ("0Gi", "0", 0),
    ("-0m", "0", 0),
    ("000", "0", 0),
    ("0e99999999999", "0", 0),
    ("1", "1", 1),
    ("+1", "1", 1),
    ("1.", "1", 1),
    ("1.G", "1G", 1_000_000_000),
    (".5", "500m", 1),
    ("-.5", "-500m", -1),
    ("0.1", "100m", 1),
    ("1.5", "1500m", 2),
    ("00128k", "128k", 128_000),
    ("1000", "1k", 1000),
    ("1000m", "1", 1),
    ("1001m", "1001m", 2),
    ("1n", "1n", 1),
    ("1000n", "1u", 1),
    ("64M", "64M", 64_000_000),
    ("64Mi", "64Mi", 67_108_864),
    ("65536Ki", "64Mi", 67_108_864),
    ("1024", "1024", 1024),
    ("1Ki", "1Ki", 1024),
    ("1023Ki", "1023Ki", 1_047_552),
    ("0.5Ki", "512", 512),
    ("1.5Gi", "1536Mi", 1_610_612_736),
    ("0.1Gi", "107374182400m", 107_374_183),
    ("-1.5Gi", "-1536Mi", -1_610_612_736),
    ("0.00001Ki", "10240u", 1),
    ("1Ei", "1Ei", 1_152_921_504_606_846_976),
    ("7Ei", "7Ei", 8_070_450_532_247_928_832),
    ("8Ei", "9223372036854775807", i64::MAX as i128),
    ("-9Ei", "-9223372036854775807", -(i64::MAX as i128)),
    ("99999999999999999999999Ei", "9223372036854775807", i64::MAX as i128),
    ("1E", "1E", 1_000_000_000_000_000_000),
    ("1000E", "1000E", 1_000_000_000_000_000_000_000),
    ("1e3", "1e3", 1000),
    ("1E3", "1e3", 1000),
    ("1E+3", "1e3", 1000),
    ("1e0", "1", 1),
    ("100e1", "1e3", 1000),
    ("10e4", "100e3", 100_000),
    ("1.5e3", "1500", 1500),
    ("1e-3", "1e-3", 1),
    ("5e-10", "1e-9", 1),
    ("1e-99999999999", "1e-9", 1),
    ("0.0000000001", "1n", 1),
    ("-0.0000000001", "-1n", -1),
    ("1.0000000001", "1000000001n", 2),
    ("9999999999999999999.999999999", "9999999999999999999999999999n", 10_000_000_000_000_000_000),
    ("0.000000000000000000000000000000000000000000000000000001Ei", "1n", 1),
];

#[test]
fn amounts_and_canonical_text_follow_kubernetes() {
    for (text, canonical, units) in TABLE {
        let got = q(text);
        assert_eq!(got.to_string(), *canonical, "canonical text of {text}");
        assert_eq!(got.value(), *units, "value of {text}");
    }
}

#[test]
fn texts_that_are_no_quantity_are_refused_with_a_reason() {
    for text in [
        "", "+", "-", ".", "Gi", "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", ".5i", "1i", "-3.01i", "-3.01e-", "1e",
        " 1", "1 ", "1Gi ", "0x10", "1e3.5", "1_000", "--1", "1KI", "1kI", "1g", "١", "1µ", "1e+", "NaN", "inf",
        "Infinity",
    ] {
        let error = Quantity::parse(text).expect_err(text);
        assert!(text.is_empty() || !matches!(error, QuantityError::Empty));
    }
    assert_eq!(
        Quantity::parse("12mi").unwrap_err().to_string(),
        "`12mi` has the unknown suffix `mi`: use Ki Mi Gi Ti Pi Ei, n u m k M G T P E, or an exponent such as e3"
    );
    assert!(matches!(Quantity::parse("1e99"), Err(QuantityError::TooLarge { .. })));
    let long = "x".repeat(100_000);
    assert!(
        Quantity::parse(&long).unwrap_err().to_string().len() < 300,
        "errors do not repeat everything a user sends"
    );
}

#[test]
fn milli_value_rounds_up_and_json_takes_strings_and_numbers() {
    assert_eq!(q("100m").milli_value(), 100);
    assert_eq!(q("1500u").milli_value(), 2);
    assert_eq!(q("2").milli_value(), 2000);
    for (json, canonical) in
        [("\"64Mi\"", "64Mi"), ("2", "2"), ("-3", "-3"), ("0.5", "500m"), ("1e3", "1k"), ("\" 1Gi \"", "1Gi")]
    {
        let got: Quantity = serde_json::from_str(json).unwrap();
        assert_eq!(got.to_string(), canonical, "{json}");
    }
    for json in ["true", "[]", "{}", "\"\"", "\"1x\"", "1e300"] {
        assert!(serde_json::from_str::<Quantity>(json).is_err(), "{json}");
    }
    assert_eq!(serde_json::to_string(&q("1.5Gi")).unwrap(), "\"1536Mi\"");
    let raw: k8s_openapi::apimachinery::pkg::api::resource::Quantity = q("1024Ki").into();
    assert_eq!(raw.0, "1Mi");
    assert_eq!(Quantity::try_from(&raw).unwrap(), q("1Mi"));
}

#[test]
fn equality_is_by_amount_and_sums_keep_the_family() {
    assert_eq!(q("1Ki"), q("1024"));
    assert!(q("1G") < q("1Gi"));
    assert_eq!((q("1Gi") + q("1M")).to_string(), "1074741824");
    assert_eq!((Quantity::ZERO + q("1Gi")).to_string(), "1Gi");
    assert_eq!((q("2Gi") - q("512Mi")).to_string(), "1536Mi");
    assert_eq!((q("100m") * 3).to_string(), "300m");
    assert_eq!(q("1").scaled(1, 3).to_string(), "333333334n");
    assert_eq!(Quantity::from_bytes(64 << 20).to_string(), "64Mi");
    assert_eq!(Quantity::from_bytes(u64::MAX).value(), i128::from(i64::MAX));
    assert_eq!(q("1Gi").with_format(QuantityFormat::DecimalSi).to_string(), "1073741824");
    assert_eq!([q("1"), q("500m")].iter().sum::<Quantity>().to_string(), "1500m");
}

prop_compose! {
    fn any_quantity()(sign in "[+-]?", whole in "[0-9]{1,12}", fraction in "(\\.[0-9]{0,12})?",
        suffix in "(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|e-?[0-9]|E[0-9]|)") -> String {
        format!("{sign}{whole}{fraction}{suffix}")
    }
}

proptest! {
    #[test]
    fn canonical_text_reads_back_as_the_same_amount_and_prints_the_same(text in any_quantity()) {
        let first = q(&text);
        let canonical = first.to_string();
        let second = q(&canonical);
        prop_assert_eq!(first, second);
        prop_assert_eq!(second.to_string(), canonical);
    }

    #[test]
    fn json_round_trip_keeps_the_amount(text in any_quantity()) {
        let first = q(&text);
        let json = serde_json::to_string(&first).unwrap();
        prop_assert_eq!(serde_json::from_str::<Quantity>(&json).unwrap(), first);
    }

    #[test]
    fn order_is_that_of_the_numbers(a in any::<i32>(), b in any::<i32>(), s in 0usize..4) {
        let suffix = ["", "m", "Ki", "k"][s];
        let (x, y) = (q(&format!("{a}{suffix}")), q(&format!("{b}{suffix}")));
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
    }

    #[test]
    fn parsing_never_panics(text in "\\PC*") {
        let _ = Quantity::parse(&text);
    }

    #[test]
    fn number_like_text_never_panics(text in "[-+.0-9eEinumkKMGTP]{0,40}") {
        let _ = Quantity::parse(&text);
    }

    #[test]
    fn whole_amounts_are_exact(units in any::<i64>()) {
        prop_assert_eq!(q(&units.to_string()).value(), i128::from(units));
    }
}
