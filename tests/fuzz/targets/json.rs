//! JSON that clients send.

use bigbunny::json::{Value, counter_update, read_object, write_string};

/// A text that may be JSON.
pub fn json(input: &[u8]) {
    let mut members = 0_usize;
    let read = read_object(input, |key, value| {
        members += 1;
        let mut text = b"{".to_vec();
        write_string(&mut text, &key);
        text.extend_from_slice(b":1}");
        let mut again = None;
        assert_eq!(read_object(&text, |key, _| again = Some(key.into_owned())), Ok(true), "a key is written as JSON");
        assert_eq!(again.as_deref(), Some(&*key));
        visit(&value);
    });
    let update = counter_update(input);
    match read {
        Ok(true) => {
            assert_ne!(update, Err(bigbunny::json::CounterBodyError::NotAnObject));
            assert!(update.is_err() || members == 1);
            // No shorter text is the same object, but for the white space behind it.
            let end = input.iter().rposition(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
            assert!(read_object(&input[..end], |_, _| ()).is_err());
        }
        Ok(false) => assert!(update.is_err()),
        Err(error) => {
            assert!(error.at <= input.len() && !error.what.is_empty());
            assert!(update.is_err());
        }
    }
}

fn visit(value: &Value<'_>) {
    if let Value::Array(array) = value {
        array.items().for_each(|item| visit(&item));
    }
}
