//! Consumers and their keys.

use super::Checker;
use crate::config::Consumer;
use http::HeaderValue;

impl Checker<'_> {
    pub(super) fn consumers(&mut self) {
        let names: Vec<_> = self.entities.consumers.iter().map(|one| one.username.as_deref()).collect();
        self.unique("consumers", "username", &names);
        let ids: Vec<_> = self.entities.consumers.iter().map(|one| one.id.as_deref()).collect();
        self.unique("consumers", "id", &ids);
        let mut keys = std::collections::HashMap::new();
        for (at, consumer) in self.entities.consumers.iter().enumerate() {
            let path = format!("consumers[{at}]");
            if consumer.username.is_none() && consumer.custom_id.is_none() {
                self.problem(path.clone(), "has neither username nor custom_id");
            }
            self.consumer_headers(consumer, &path);
            for (number, credential) in consumer.keyauth_credentials.iter().enumerate() {
                let path = format!("{path}.keyauth_credentials[{number}].key");
                if credential.key.is_empty() {
                    self.problem(path, "is missing");
                } else if let Some(first) = keys.insert(credential.key.as_str(), path.clone()) {
                    self.problem(path, format!("is the same as {first}"));
                }
            }
            self.back.keyring.add(at, consumer);
        }
    }

    fn consumer_headers(&mut self, consumer: &Consumer, path: &str) {
        for (field, value) in
            [("id", &consumer.id), ("username", &consumer.username), ("custom_id", &consumer.custom_id)]
        {
            if value.as_ref().is_some_and(|value| HeaderValue::from_str(value).is_err() || !value.is_ascii())
            {
                self.problem(
                    format!("{path}.{field}"),
                    "must be printable ASCII: it goes upstream in a header",
                );
            }
        }
    }
}
