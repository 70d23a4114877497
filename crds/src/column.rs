//! Columns of `kubectl get`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;

/// A column, with where its value comes from.
pub(crate) struct Column {
    name: &'static str,
    r#type: &'static str,
    path: &'static str,
    about: &'static str,
    wide: bool,
}

impl Column {
    /// A text.
    pub const fn text(name: &'static str, path: &'static str, about: &'static str) -> Self {
        Self { name, r#type: "string", path, about, wide: false }
    }

    /// A whole number.
    pub const fn number(name: &'static str, path: &'static str, about: &'static str) -> Self {
        Self { name, r#type: "integer", path, about, wide: false }
    }

    /// A moment, shown as the time that has passed since.
    pub const fn since(name: &'static str, path: &'static str, about: &'static str) -> Self {
        Self { name, r#type: "date", path, about, wide: false }
    }

    /// How old the object is.
    pub const fn age() -> Self {
        Self::since("Age", ".metadata.creationTimestamp", "How long it has been there")
    }

    /// The same, shown by `-o wide` only.
    pub const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }

    /// As a definition has it.
    pub fn definition(&self) -> CustomResourceColumnDefinition {
        CustomResourceColumnDefinition {
            name: self.name.into(),
            type_: self.r#type.into(),
            json_path: self.path.into(),
            description: Some(self.about.into()),
            priority: self.wide.then_some(1),
            format: None,
        }
    }
}
