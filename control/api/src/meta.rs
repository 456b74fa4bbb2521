//! What every object has.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// An object as written: version, kind, metadata and specification.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object<S> {
    /// `causeway.dev/v1alpha1`, or `v1` for kinds of Kubernetes.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: S,
}

/// Name and labels of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectMeta {
    /// Name, unique within the kind.
    pub name: String,
    /// Namespace, for kinds that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels, for selectors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Metadata of Kubernetes' own kinds: what we look at. Whatever else the API server keeps there is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeMeta {
    /// Name, unique within kind and namespace.
    pub name: String,
    /// Namespace; `default` if absent, for kinds that have one.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Labels.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub annotations: BTreeMap<String, String>,
    /// When the API server accepted the object, RFC 3339 in UTC; absent in files written by hand.
    #[serde(default)]
    pub creation_timestamp: Option<String>,
}

/// Reads `null` as if nothing stood there: the API server writes `endpoints: null` for an empty list.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A reference to an object by name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectRef {
    /// Name.
    pub name: String,
}

/// Selects objects by their labels; all conditions must hold, and an empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelExpression>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelExpression {
    /// Label.
    pub key: String,
    /// Condition.
    pub operator: LabelOperator,
    /// Values for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// Kubernetes' selector operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum LabelOperator {
    /// The label has one of the values.
    In,
    /// The label is absent or has another value.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|e| e.holds(labels))
    }
}

impl LabelExpression {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelOperator::In => value.is_some_and(|value| self.values.contains(value)),
            LabelOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &[(&str, &str)]) -> BTreeMap<String, String> {
        text.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn expression(operator: LabelOperator, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_expressions: vec![LabelExpression {
                key: "rack".to_owned(),
                operator,
                values: values.iter().map(|v| (*v).to_owned()).collect(),
            }],
            ..LabelSelector::default()
        }
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        assert!(LabelSelector::default().selects(&labels(&[])));
    }

    #[test]
    fn operators_mean_what_kubernetes_says() {
        let (a, none) = (labels(&[("rack", "a")]), labels(&[]));
        for (operator, values, on_a, on_none) in [
            (LabelOperator::In, &["a", "b"][..], true, false),
            (LabelOperator::In, &["b"], false, false),
            (LabelOperator::NotIn, &["a"], false, true),
            (LabelOperator::NotIn, &["b"], true, true),
            (LabelOperator::Exists, &[], true, false),
            (LabelOperator::DoesNotExist, &[], false, true),
        ] {
            let selector = expression(operator, values);
            assert_eq!(selector.selects(&a), on_a, "{operator:?} {values:?} on a");
            assert_eq!(
                selector.selects(&none),
                on_none,
                "{operator:?} {values:?} on none"
            );
        }
    }
}
