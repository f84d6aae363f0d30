//! Tests of the reader and the writer: what the RFC has, what it does not have, and every cut.
#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use super::*;

/// The members of an object, written down.
fn members(text: &[u8]) -> Result<Option<Vec<(String, String)>>, JsonError> {
    let mut list = Vec::new();
    let is_object = read_object(text, |key, value| list.push((key.into_owned(), format!("{value:?}"))))?;
    Ok(is_object.then_some(list))
}

/// The one value of `{"k":…}`.
fn one(value: &str) -> Result<String, JsonError> {
    let text = format!("{{\"k\":{value}}}");
    Ok(members(text.as_bytes())?.unwrap().pop().unwrap().1)
}

#[test]
fn values_are_read_as_the_rfc_has_them() {
    let cases = [
        ("0", "Integer(0)"),
        ("-0", "Integer(0)"),
        ("10", "Integer(10)"),
        ("9223372036854775807", "Integer(9223372036854775807)"),
        ("-9223372036854775808", "Integer(-9223372036854775808)"),
        ("9223372036854775808", "OtherNumber"),
        ("-9223372036854775809", "OtherNumber"),
        ("1.0", "OtherNumber"),
        ("1e3", "OtherNumber"),
        ("1E-3", "OtherNumber"),
        ("0.5e+10", "OtherNumber"),
        ("true", "Bool(true)"),
        ("false", "Bool(false)"),
        ("null", "Null"),
        (r#""""#, r#"String("")"#),
        (r#""a/\/\\""#, r#"String("a//\\")"#),
        (r#""\u0041\ud83d\ude00z""#, r#"String("A😀z")"#),
        (r#""\b\f\n\r\t\"""#, r#"String("\u{8}\u{c}\n\r\t\"")"#),
        ("\"\u{7f}\u{2028}é\"", "String(\"\\u{7f}\\u{2028}é\")"),
        ("{}", r#"Object(Object { text: "{}", depth: 62 })"#),
        (r#"{"a":[{},[]]}"#, r#"Object(Object { text: "{\"a\":[{},[]]}", depth: 62 })"#),
    ];
    for (text, expected) in cases {
        assert_eq!(one(text).as_deref(), Ok(expected), "{text}");
        assert_eq!(one(&format!(" \t\r\n{text} \t\r\n")).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_the_rfc_does_not_have_is_refused() {
    let cases = [
        "",
        "01",
        "-",
        "-01",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x10",
        "1_0",
        "NaN",
        "Infinity",
        "-Infinity",
        "nul",
        "nulll",
        "True",
        "'a'",
        "\"a",
        "\"\\\"",
        "\"\\q\"",
        "\"\\0\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800\\n\"",
        "\"\\udc00\\ud800\"",
        "\"\n\"",
        "\"\t\"",
        "\"\u{1}\"",
        "\"\0\"",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "{}}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "/* c */1",
        "1//c",
        "\u{a0}1",
        "\u{feff}1",
        "\u{b}1",
        "1,",
        "1 1",
        "]",
        "}",
    ];
    for text in cases {
        assert!(one(text).is_err(), "{text:?}");
    }
    for text in ["", " ", "{}x", "{} {}", "{}\0", "\u{feff}{}", "{}/**/", "{,}"] {
        assert!(members(text.as_bytes()).is_err(), "{text:?}");
    }
    for text in [&b"{\"a\":\"\xff\"}"[..], b"{\"\xc0\x80\":1}", b"{}\xff", b"{\"a\":\"\xed\xa0\x80\"}"] {
        assert_eq!(members(text).unwrap_err().what, "it is not UTF-8");
    }
}

#[test]
fn good_json_that_is_no_object_is_told_apart() {
    for text in ["1", " \"a\" ", "[]", "[{}]", "null", "true"] {
        assert_eq!(members(text.as_bytes()), Ok(None), "{text}");
    }
    assert_eq!(members(b" { } "), Ok(Some(vec![])));
}

#[test]
fn every_cut_of_an_object_is_refused() {
    let text = r#" {"a":[1,-2.5e3,{"b":null}],"c\n\u00e9\ud83d\ude00":"é",  "d":true}"#;
    assert!(members(text.as_bytes()).unwrap().is_some());
    for end in 0..text.len() {
        assert!(members(&text.as_bytes()[..end]).is_err(), "{end}");
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let limit = MAX_DEPTH as usize;
    assert_eq!(members(nested(limit).as_bytes()), Ok(None));
    assert_eq!(members(nested(limit + 1).as_bytes()).unwrap_err().what, "it is too deep");
    assert!(members("[".repeat(1 << 20).as_bytes()).is_err());
    assert!(members("{\"a\":".repeat(1 << 18).as_bytes()).is_err());
}

#[test]
fn items_come_in_order() {
    let mut seen = Vec::new();
    let text = br#"{"k" : [ "a" , 1,[2, [3]],{"x":[]}, null ] }"#;
    read_object(text, |_, value| {
        let Value::Array(array) = value else { unreachable!() };
        seen = array.items().collect();
    })
    .unwrap();
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[0], Value::String(Cow::Borrowed("a")));
    assert_eq!(seen[1], Value::Integer(1));
    let Value::Array(inner) = seen[2] else { unreachable!() };
    assert_eq!(inner.items().count(), 2);
    assert!(matches!(seen[3], Value::Object(_)));
    assert_eq!(seen[4], Value::Null);
    read_object(b"{\"k\":[ ]}", |_, value| {
        let Value::Array(array) = value else { unreachable!() };
        assert_eq!(array.items().count(), 0);
    })
    .unwrap();
}

#[test]
fn the_update_of_a_counter() {
    use CounterBodyError::{Bad, NotAnObject};
    assert_eq!(counter_update(br#"{"value":5}"#), Ok(5));
    assert_eq!(counter_update(b" {\"val\\u0075e\": -9223372036854775808 }\n"), Ok(i64::MIN));
    for body in ["", "5", "[5]", "hello", "{\"value\":5", "{\"value\":5}x", "\"value\""] {
        assert_eq!(counter_update(body.as_bytes()), Err(NotAnObject), "{body}");
    }
    for body in [
        "{}",
        r#"{"value":5,"x":1}"#,
        r#"{"value":5,"value":5}"#,
        r#"{"Value":5}"#,
        r#"{"value":"5"}"#,
        r#"{"value":5.0}"#,
        r#"{"value":9223372036854775808}"#,
        r#"{"value":null}"#,
    ] {
        assert!(matches!(counter_update(body.as_bytes()), Err(Bad(_))), "{body}");
    }
}

#[test]
fn what_is_written_reads_back_the_same() {
    let mut every = (0..0x250).filter_map(char::from_u32).collect::<String>();
    every.push_str("\u{2028}\u{ffff}😀\"\\/");
    for text in ["", "plain", "\"", "\\", "a\nb", &every] {
        let mut out = b"{\"k\":".to_vec();
        write_string(&mut out, text);
        assert!(out[5..].iter().all(|&byte| byte >= 0x20));
        out.push(b'}');
        let mut back = None;
        read_object(&out, |_, value| back = Some(value)).unwrap();
        assert_eq!(back, Some(Value::String(Cow::Borrowed(text))));
    }
}

#[test]
fn objects_inside_of_objects_are_read_and_any_value_may_stand_at_the_top() {
    let Ok(Value::Object(outer)) = read_value(br#" {"Set":{"key":"k","value":[1]},"n":null} "#) else {
        panic!("no object")
    };
    let members = outer.members();
    assert_eq!(members[1], ("n".into(), Value::Null));
    let Value::Object(inner) = members[0].1 else { panic!("no object inside") };
    let inner = inner.members();
    assert_eq!(inner[0], ("key".into(), Value::String("k".into())));
    assert!(matches!(inner[1].1, Value::Array(_)));
    assert_eq!(read_value(b"\"k\""), Ok(Value::String("k".into())));
    assert_eq!(read_value(b"1 2").map_err(|error| error.at), Err(2));
    let deep = [b"{\"a\":".repeat(MAX_DEPTH as usize), b"1".to_vec(), b"}".repeat(MAX_DEPTH as usize)].concat();
    let mut value = read_value(&deep).unwrap();
    let mut depth = 0;
    while let Value::Object(object) = value {
        value = object.members().pop().unwrap().1;
        depth += 1;
    }
    assert_eq!((depth, value), (MAX_DEPTH, Value::Integer(1)));
}
