//! Manifests of Kubernetes.

use super::*;

#[test]
fn workloads_of_every_kind_have_images() {
    let pod = "containers: [{image: app:1}]";
    for (version, kind, before) in [
        ("v1", "Pod", "spec"),
        ("apps/v1", "Deployment", "spec.template.spec"),
        ("apps/v1", "ReplicaSet", "spec.template.spec"),
        ("apps/v1", "StatefulSet", "spec.template.spec"),
        ("apps/v1beta1", "DaemonSet", "spec.template.spec"),
        ("batch/v1", "Job", "spec.template.spec"),
        ("batch/v1", "CronJob", "spec.jobTemplate.spec.template.spec"),
        ("v1", "ReplicationController", "spec.template.spec"),
        ("v1", "PodTemplate", "template.spec"),
    ] {
        let mut value = format!("{{{pod}}}");
        for key in before.rsplit('.') {
            value = format!("{{{key}: {value}}}");
        }
        let inside = &value[1..value.len() - 1];
        let text = format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: x}}, {inside}}}");
        let path = format!("{kind}/x {before}.containers[0].image");
        assert_eq!(images(&text), [found("app:1", 1, &path)], "{kind}");
    }
}

#[test]
fn manifests_have_documents_lists_and_images_of_several_kinds() {
    let text = "\
# Source: chart/templates/web.yaml
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      initContainers:
        - name: init
          image: \"init:1\"
      containers:
        - name: web
          image: web:1
          env:
            - {name: RELATED_IMAGE_X, value: quay.io/x:1}
            - name: KAFKA_IMAGES
              value: |
                3.7.0=quay.io/kafka:3.7.0
                3.8.0=quay.io/kafka:3.8.0
            - {name: IMAGE_PULL_POLICY, value: Always}
          args:
            - --config-reloader=quay.io/reloader:1
            - --listen=localhost:8080
            - --solver-image
            - solver:1
            - --upstream=http://example.com/a:1
            - localhost:5000/tool@sha256:0000000000000000000000000000000000000000000000000000000000000000
        - name: proxy
          image: auto
        - name: none
      ephemeralContainers:
        - image: debug:1
      volumes:
        - name: model
          image: {reference: model:1}
---
# Source: chart/templates/empty.yaml
---
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Pod
    metadata: {generateName: one-}
    spec: {containers: [{image: listed:1}]}
  - {apiVersion: v1, kind: Service, metadata: {name: s}}
---
{\"apiVersion\": \"batch/v1\", \"kind\": \"Job\", \"spec\": {\"template\": {\"spec\": {\"containers\": [{\"image\": \"json:1\"}]}}}}
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata: {name: p}
spec: {image: quay.io/prometheus:1, list: [{baseImage: quay.io/base}]}
";
    let all = images(text);
    assert_eq!(
        all[0],
        found(
            "init:1",
            10,
            "Deployment/web spec.template.spec.initContainers[0].image"
        )
    );
    let names: Vec<&str> = all.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["init:1", "web:1", "debug:1", "model:1", "listed:1", "json:1"]
    );
    let unused = unused(text, &Options::default());
    let paths: Vec<&str> = unused.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "Deployment/web spec.template.spec.containers[0].args[0]",
            "Deployment/web spec.template.spec.containers[0].args[3]",
            "Deployment/web spec.template.spec.containers[0].args[5]",
            "Deployment/web spec.template.spec.containers[0].env[0].value",
            "Deployment/web spec.template.spec.containers[0].env[1].value",
            "Deployment/web spec.template.spec.containers[1].image",
            "Deployment/web spec.template.spec.containers[2]",
            "Prometheus/p spec.image",
            "Prometheus/p spec.list[0].baseImage",
        ]
    );
    // Without its value, which may be a password.
    let reasons: Vec<&str> = unused.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(
        &reasons[..5],
        [
            "--config-reloader may name an image that the program starts",
            "--solver-image may name an image that the program starts",
            "this argument may name an image that the program starts",
            "RELATED_IMAGE_X may name an image that the program starts",
            "KAFKA_IMAGES may name an image that the program starts",
        ]
    );
    assert!(
        unused[8]
            .1
            .ends_with("its field is Prometheus:spec.list[].baseImage"),
        "{unused:?}"
    );
    let options = Options {
        fields: vec![
            "Prometheus:spec.list[].baseImage".parse().unwrap(),
            "Prometheus:spec.*".parse().unwrap(),
        ],
        ..Options::default()
    };
    let text = text.replace(", list: [{baseImage: quay.io/base}]", "");
    let with_fields = images_with(&text, &options);
    assert_eq!(
        with_fields[6],
        found("quay.io/prometheus:1", 53, "Prometheus/p spec.image")
    );
}

#[test]
fn fields_are_taken_from_resources_of_every_kind_and_told_apart_from_those_that_none_has() {
    let text = "\
apiVersion: v1
kind: Pod
metadata:
  name: p
  annotations: {sidecar: quay.io/sidecar:1}
spec: {containers: [{image: app:1}]}
---
apiVersion: example.com/v1
kind: Stack
spec: {version: 3, image: {repository: quay.io/x, tag: 1}}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: shop}
";
    let options = Options {
        fields: vec![
            "Stack:spec.images[]".parse().unwrap(),
            "Pod:metadata.annotations.sidecar".parse().unwrap(),
        ],
        ..Options::default()
    };
    let list = list(text, &options);
    let names: Vec<&str> = list.mentions.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["app:1", "quay.io/sidecar:1"]);
    assert_eq!(list.fields_found.into_iter().collect::<Vec<_>>(), [1]);
    let reported = unused(text, &Options::default());
    assert_eq!(reported[0].0, "Stack spec.image");
    assert!(reported[0].1.contains("in several fields"), "{reported:?}");
    assert_eq!(reported[1].0, "Application/shop");
    assert!(reported[1].1.contains("`helm template`"), "{reported:?}");
}

#[test]
fn of_keys_that_manifests_have_twice_the_last_counts() {
    let text = "\
apiVersion: v1
kind: Pod
metadata:
  labels: {app: a, app: b}
spec:
  containers:
  - image: first:1
    image: last:1
";
    assert_eq!(images(text), [found("last:1", 8, "Pod spec.containers[0].image")]);
    let reasons = list(text, &Options::default()).unused;
    assert_eq!((reasons[0].line, reasons[0].column), (4, 20));
    assert_eq!(
        reasons[0].reason,
        "the key \"app\" occurs twice in one mapping; the last one counts, as for kubectl"
    );
    assert_eq!((reasons[1].line, reasons.len()), (8, 2));
    // Other tools refuse such a file.
    let compose = format!("{text}---\nservices:\n  a: {{image: a}}\n  a: {{image: b}}\n");
    assert!(refusal(compose.as_bytes()).starts_with("f, line 12, column 3: the key \"a\" occurs twice"));
}
