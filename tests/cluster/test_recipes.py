"""The recipes of cluster/ hold against the schemas there are, keep secrets out, and let nobody in.

KubeRay's own kinds, whose schemas no package carries, are held against their fields in its API;
what no schema covers (Docker Compose) against itself: every name that is used is made somewhere.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from xlt_ray.config.sweep import load_sweep

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
CLOUDS = ["aws.yaml", "gcp.yaml"]
KUBERNETES = ["mlflow.yaml", "raycluster.yaml", "rayjob.yaml"]
README = (CLUSTER / "README.md").read_text(encoding="utf-8")
SECRET = re.compile(r"PASSWORD|TOKEN$|SECRET")


def read(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / "kuberay" / name).read_text(encoding="utf-8")))


def every_manifest() -> Iterator[dict[str, Any]]:
    for name in KUBERNETES:
        yield from manifests(name)


def ray_spec(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]
    return spec if manifest["kind"] == "RayCluster" else spec["rayClusterSpec"]


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Pod templates of a manifest, whatever its kind."""
    if manifest["kind"] in ("RayCluster", "RayJob"):
        spec = ray_spec(manifest)
        groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
        return [group["template"] for group in groups]
    template = manifest.get("spec", {}).get("template")
    return [template] if template else []


def tool(name: str) -> str:
    """A checker beside this Python or on the PATH; the test is skipped where there is none."""
    beside = Path(sys.executable).parent / name
    executable = str(beside) if beside.exists() else shutil.which(name)
    if executable is None:
        pytest.skip(f"{name} is not installed")
    return executable


# -- Ray's cluster launcher ---------------------------------------------------------------


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cluster_file_is_one_by_rays_own_schema(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(read(name)))


@pytest.mark.parametrize("name", CLOUDS)
def test_every_node_of_a_cloud_cluster_asks_for_a_token(name: str) -> None:
    config = read(name)
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in config[commands] if "ray start" in command]
        assert len(starts) == 1
        assert "RAY_AUTH_MODE=token" in starts[0]
        assert ". ~/secrets.env" in starts[0]
        assert "0.0.0.0" not in starts[0]


@pytest.mark.parametrize("name", CLOUDS)
def test_secrets_reach_a_cloud_cluster_once(name: str) -> None:
    config = read(name)
    mounts = config["file_mounts"]
    assert mounts["/home/ubuntu/secrets.env"] == "cluster/secrets.env"
    assert mounts["/home/ubuntu/xlt-ray"] == "."
    # rsync looks at a file that it is given by its name alone, and leaves it out where that is
    # excluded; a pattern with a slash in front is one of the folder that is sent.
    assert "/cluster/secrets.env" in config["rsync_exclude"]
    sent = [Path(mount).name for mount in mounts.values()]
    assert not set(sent) & {pattern.removeprefix("**/") for pattern in config["rsync_exclude"]}
    assert any(
        "chmod 600 /home/ubuntu/secrets.env" in command for command in config["setup_commands"]
    )


@pytest.mark.parametrize("name", CLOUDS)
def test_gpu_workers_are_spot_and_the_head_is_not(name: str) -> None:
    types = read(name)["available_node_types"]
    assert "spot" in json.dumps(types["gpu"]).lower()
    assert "spot" not in json.dumps(types["head"]).lower()
    assert types["gpu"]["min_workers"] == 0
    assert types["head"]["resources"] == {"CPU": 0}


@pytest.mark.parametrize("name", CLOUDS)
def test_commands_of_a_cloud_cluster_are_sound_shell(name: str) -> None:
    shellcheck = tool("shellcheck")
    config = read(name)
    lines = [
        command
        for key in ("setup_commands", "head_setup_commands", "head_start_ray_commands",
                    "worker_start_ray_commands")
        for command in config[key]
    ]  # fmt: skip
    assert len(lines) > 8
    # A tilde behind `=` is Ray's to expand; the secrets are not there to be read.
    script = "#!/bin/bash\n# shellcheck disable=SC1090,SC1091,SC2088\n" + "\n".join(lines) + "\n"
    done = subprocess.run(
        [shellcheck, "--exclude=SC1090,SC1091,SC2016,SC2086,SC2164", "-"],
        input=script, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


# -- Kubernetes -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", KUBERNETES)
def test_manifests_hold_against_the_schemas_of_kubernetes(name: str) -> None:
    for manifest in manifests(name):
        if not manifest["apiVersion"].startswith("ray.io/"):
            kubernetes_validate.validate(manifest, "1.37", strict=True)
        for template in pods(manifest):
            kubernetes_validate.validate(
                {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {}, "template": template},
                "1.37",
                strict=True,
            )


TEXT, NUMBER, FLAG, ANY = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def fields(required: str, **known: Any) -> dict[str, Any]:
    """An object with these fields and no other."""
    return {"type": "object", "properties": known, "required": required.split(),
            "additionalProperties": False}  # fmt: skip


def listed(item: Any) -> dict[str, Any]:
    return {"type": "array", "items": item}


RAY_CLUSTER = fields(
    "headGroupSpec",
    rayVersion=TEXT,
    suspend=FLAG,
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=FLAG,
    authOptions=fields("", mode={"enum": ["disabled", "token"]}),
    autoscalerOptions=fields(
        "",
        resources=ANY,
        image=TEXT,
        imagePullPolicy=TEXT,
        env=listed(ANY),
        envFrom=listed(ANY),
        volumeMounts=listed(ANY),
        securityContext=ANY,
        idleTimeoutSeconds=NUMBER,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    ),
    headGroupSpec=fields(
        "rayStartParams template",
        serviceType=TEXT,
        headService=ANY,
        enableIngress=FLAG,
        rayStartParams=TEXTS,
        template=ANY,
    ),
    workerGroupSpecs=listed(
        fields(
            "groupName minReplicas maxReplicas rayStartParams template",
            groupName=TEXT,
            replicas=NUMBER,
            minReplicas=NUMBER,
            maxReplicas=NUMBER,
            numOfHosts=NUMBER,
            rayStartParams=TEXTS,
            template=ANY,
            scaleStrategy=ANY,
        )
    ),
)
RAY_JOB = fields(
    "",
    activeDeadlineSeconds=NUMBER,
    backoffLimit=NUMBER,
    rayClusterSpec=RAY_CLUSTER,
    submitterPodTemplate=ANY,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=fields("", backoffLimit=NUMBER),
    managedBy=TEXT,
    deletionStrategy=ANY,
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
    entrypointResources=TEXT,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    ttlSecondsAfterFinished=NUMBER,
    shutdownAfterJobFinishes=FLAG,
    suspend=FLAG,
)
"""The fields of KubeRay's v1 kinds and their types as its published API has them (read in
ray-operator/apis/ray/v1); `authOptions`, of 1.5.1, as Ray's documentation has it."""


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_kinds_of_kuberay_have_the_fields_of_its_published_api(name: str) -> None:
    manifest = manifests(name)[0]
    assert manifest["apiVersion"] == "ray.io/v1"
    kind = {"RayCluster": RAY_CLUSTER, "RayJob": RAY_JOB}[manifest["kind"]]
    jsonschema.validate(manifest["spec"], kind)
    for group in ray_spec(manifest)["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for template in pods(manifest):
        assert template["spec"]["containers"][0]["name"].startswith("ray-")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("rayversion",), "2.60.0"),
        (("headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("workerGroupSpecs", 0, "maxReplicas"), "8"),
        (("autoscalerOptions", "idleTimeout"), 300),
    ],
    ids=str,
)
def test_a_slip_in_a_kind_of_kuberay_is_found(place: tuple[str | int, ...], value: object) -> None:
    spec: Any = ray_spec(manifests("raycluster.yaml")[0])
    inner = spec
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spec, RAY_CLUSTER)


def test_rays_version_is_the_tested_one() -> None:
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned is not None
    versions = {
        ray_spec(manifest)["rayVersion"]
        for manifest in every_manifest()
        if "Ray" in manifest["kind"]
    }
    assert versions == {pinned[1]}


def test_both_ways_to_kubernetes_make_the_same_cluster() -> None:
    def without_sweep(manifest: dict[str, Any]) -> str:
        spec = json.loads(json.dumps(ray_spec(manifest)))
        head = spec["headGroupSpec"]["template"]["spec"]
        head["volumes"] = [volume for volume in head["volumes"] if volume["name"] != "sweep"]
        mounts = head["containers"][0]["volumeMounts"]
        head["containers"][0]["volumeMounts"] = [
            mount for mount in mounts if mount["name"] != "sweep"
        ]
        return json.dumps(spec, sort_keys=True)

    cluster, job = manifests("raycluster.yaml")[0], manifests("rayjob.yaml")[0]
    assert without_sweep(cluster) == without_sweep(job)


def test_ray_on_kubernetes_asks_for_a_token() -> None:
    clusters = [ray_spec(manifest) for manifest in every_manifest() if "Ray" in manifest["kind"]]
    assert len(clusters) == 2
    assert all(cluster["authOptions"] == {"mode": "token"} for cluster in clusters)


def test_services_are_private_to_their_namespace() -> None:
    manifests = list(every_manifest())
    services = [manifest for manifest in manifests if manifest["kind"] == "Service"]
    assert {service["metadata"]["name"] for service in services} == {"postgres", "mlflow"}
    assert all("type" not in service["spec"] for service in services)
    policies = {
        manifest["metadata"]["name"]
        for manifest in manifests
        if manifest["kind"] == "NetworkPolicy"
    }
    assert policies == {"postgres", "mlflow", "ray"}
    assert not [manifest for manifest in manifests if manifest["kind"] in ("Ingress", "Secret")]


def test_every_pod_may_do_no_more_than_it_needs() -> None:
    for manifest in every_manifest():
        for template in pods(manifest):
            spec = template["spec"]
            for container in spec["containers"]:
                if container["name"] == "postgres":
                    continue
                assert spec["securityContext"]["runAsNonRoot"] is True
                assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_every_name_that_a_pod_uses_is_made() -> None:
    manifests = list(every_manifest())
    made = {(manifest["kind"], manifest["metadata"].get("name")) for manifest in manifests}
    for kind, name in re.findall(r"kubectl create (secret generic|configmap) ([\w-]+)", README):
        made.add(({"configmap": "ConfigMap"}.get(kind, "Secret"), name))
    text = json.dumps(manifests)
    used = {("Secret", name) for name in re.findall(r'"secretKeyRef": {"name": "([\w-]+)"', text)}
    used |= {("ConfigMap", name) for name in re.findall(r'"configMap": {"name": "([\w-]+)"', text)}
    used |= {
        ("PersistentVolumeClaim", name) for name in re.findall(r'"claimName": "([\w-]+)"', text)
    }
    assert len(used) >= 5
    assert used <= made


def test_keys_of_the_secret_are_those_of_the_example() -> None:
    used = set(re.findall(r'"secretKeyRef": {"name": "xlt-secrets", "key": "(\w+)"',
                          json.dumps(list(every_manifest()))))  # fmt: skip
    assert used
    assert used <= example_keys()


def test_the_job_runs_a_sweep_that_exists_with_overrides_that_fit() -> None:
    words = manifests("rayjob.yaml")[0]["spec"]["entrypoint"].split()
    assert words[:3] == ["xlt", "run", "/sweep/sweep.yaml"]
    sweep = load_sweep(ROOT / "sweeps" / "quickstart.yaml", words[3:])
    assert sweep.settings.places.ledger == "postgresql+psycopg://xlt@postgres:5432/xlt"


# -- Docker -----------------------------------------------------------------------------------


def example_keys() -> set[str]:
    text = (CLUSTER / "secrets.env.example").read_text(encoding="utf-8")
    return set(re.findall(r"^(\w+)=", text, re.M))


def test_compose_publishes_on_loopback_only() -> None:
    ports = [
        port for service in read("compose.yaml")["services"].values() for port in service["ports"]
    ]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_uses_what_it_defines_and_secrets_of_the_example() -> None:
    tree = read("compose.yaml")
    for service in tree["services"].values():
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= tree["volumes"].keys()
        assert {config["source"] for config in service.get("configs", [])} <= tree["configs"].keys()
        assert set(service.get("depends_on", {})) <= tree["services"].keys()
    text = (CLUSTER / "compose.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+):\?", text)) == example_keys()
    assert (CLUSTER / tree["configs"]["mlflow-auth"]["file"]).exists()


def test_the_users_file_of_mlflow_is_alike_in_docker_and_kubernetes() -> None:
    own = (CLUSTER / "mlflow-auth.ini").read_text(encoding="utf-8").partition("[mlflow]\n")[2]
    data = next(
        manifest["data"] for manifest in manifests("mlflow.yaml") if manifest["kind"] == "ConfigMap"
    )
    assert data["mlflow-auth.ini"].partition("[mlflow]\n")[2] == own


def test_images_are_made_of_files_and_extras_that_exist() -> None:
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    let_in = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    sources = [
        name for line in re.findall(r"^COPY (.+)$", text, re.M) for name in line.split()[:-1]
    ]
    assert "xlt_ray" in sources
    for name in sources:
        assert (ROOT / name).exists()
        assert f"!{name}" in let_in
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    asked = re.search(r'"\.\[([\w,]+)\]"', text)
    assert asked is not None
    assert set(asked[1].split(",")) <= extras.keys()
    targets = set(re.findall(r" AS (\w+)$", text, re.M))
    built = {service["build"]["target"] for service in read("compose.yaml")["services"].values()
             if "build" in service}  # fmt: skip
    assert built == {"mlflow", "node"} <= targets


def test_the_dockerfile_has_no_complaints() -> None:
    done = subprocess.run(
        [tool("hadolint"), str(CLUSTER / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


# -- all of them ----------------------------------------------------------------------------


def test_no_recipe_holds_a_secret() -> None:
    for manifest in every_manifest():
        for template in pods(manifest):
            for container in template["spec"]["containers"]:
                for variable in container.get("env", []):
                    assert not SECRET.search(variable["name"]) or "valueFrom" in variable, variable
    for service in read("compose.yaml")["services"].values():
        for name, value in service["environment"].items():
            assert not SECRET.search(name) or str(value).startswith("${"), name
    for line in (CLUSTER / "secrets.env.example").read_text(encoding="utf-8").splitlines():
        assert not SECRET.search(line.partition("=")[0]) or line.endswith("="), line
    assert "secrets.env\n" in (CLUSTER / ".gitignore").read_text(encoding="utf-8")


def test_no_url_of_a_recipe_carries_a_password() -> None:
    for file in CLUSTER.rglob("*"):
        if file.is_file():
            assert not re.findall(r"\w+://[^\s/@:\"]+:[^\s/@\"]+@", file.read_text()), file.name


def ray_commands() -> Iterator[list[str]]:
    """Every command line of Ray's own that a recipe shows or runs."""
    texts = [README, (CLUSTER / "slurm.sh").read_text(encoding="utf-8").replace('"', "")]
    texts += [" ".join(json.dumps(value) for value in read(name).values()) for name in CLOUDS]
    texts += [
        " ".join(service.get("command", ()))
        for service in read("compose.yaml")["services"].values()
    ]
    verbs = "start|stop|up|down|job|monitor|rsync-down|get-head-ip|get-auth-token|health-check"
    for text in texts:
        joined = text.replace("\\\n", " ")
        for line in re.findall(rf"(?<![\w./-])ray ((?:{verbs})\b[^\n`\";|&>)]*)", joined):
            yield line.split()


def test_what_recipes_ask_of_ray_is_what_ray_takes() -> None:
    import click
    from ray.scripts.scripts import cli

    commands = list(ray_commands())
    assert {words[0] for words in commands} >= {"start", "up", "down", "job", "health-check"}
    assert any("--include-dashboard=false" in words for words in commands), (
        "continued lines are joined"
    )
    for words in commands:
        command, rest = cli.commands[words[0]], words[1:]
        while isinstance(command, click.Group) and rest:
            command, rest = command.commands[rest[0]], rest[1:]
        # NoSuchOption, where it is none.
        command.make_context(words[0], list(rest), resilient_parsing=True)


def test_placeholders_are_explained() -> None:
    for name in CLOUDS:
        text = (CLUSTER / name).read_text(encoding="utf-8")
        explained = re.search(r"Words in capitals are yours to fill in: (.+)\.", text)
        assert explained is not None
        for word in explained[1].split(", "):
            assert text.count(word) >= 2, word
            assert word in README, word
