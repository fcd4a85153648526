"""The environment of a container as the kubelet makes it.

Order and precedence are those of ``makeEnvironmentVariables`` in the kubelet: ``envFrom``, then ``env``, then the
addresses of services for names that are still free. The service ``kubernetes`` is always among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_API = {"kubernetes": {"https": 443}}


def service_links(name: str, ip: str, ports: Mapping[str, int]) -> dict[str, str]:
    """What a pod is told of one service, in the names that Docker links had.

    Args:
        ports: number of each named port, the first one first.
    """
    stem = name.upper().replace("-", "_")
    first = next(iter(ports.values()))
    env = {f"{stem}_SERVICE_HOST": ip, f"{stem}_SERVICE_PORT": str(first), f"{stem}_PORT": f"tcp://{ip}:{first}"}
    for port_name, number in ports.items():
        env[f"{stem}_SERVICE_PORT_{port_name.upper().replace('-', '_')}"] = str(number)
        link = f"{stem}_PORT_{number}_TCP"
        env |= {link: f"tcp://{ip}:{number}", f"{link}_PROTO": "tcp", f"{link}_PORT": str(number), f"{link}_ADDR": ip}
    return env


def environment_of(
    spec: Mapping[str, Any],
    *,
    secrets: Mapping[str, Mapping[str, str]],
    services: Mapping[str, Mapping[str, int]],
    image: Mapping[str, str],
) -> dict[str, str]:
    """The environment of a pod's only container.

    Args:
        spec: of the pod.
        secrets: contents of the namespace's secrets.
        services: named ports of the namespace's services.
        image: what the image sets.
    """
    (container,) = spec["containers"]
    ours: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        ours |= secrets[source["secretRef"]["name"]]
    for entry in container.get("env", ()):
        ours[entry["name"]] = entry["value"] if "value" in entry else _from_secret(entry["valueFrom"], secrets)
    seen = {**_API, **(services if spec.get("enableServiceLinks", True) else {})}
    links: dict[str, str] = {}
    for number, (name, ports) in enumerate(seen.items(), 1):
        links |= service_links(name, f"10.96.0.{number}", ports)
    return {**image, **links, **ours}


def _from_secret(source: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]) -> str:
    return secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
