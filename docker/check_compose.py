"""Check the rights of every service in the output of `docker compose config --format json`.

    docker compose -f compose.yaml config --format json | python3 check_compose.py

Exit status 1, with all faults, if a service may do more than it must.
"""

import json
import re
import sys

HOST = re.compile(r"^[^/]*[.:][^/]*/")
"""An image's name that begins with the host of a registry."""


def faults(name: str, service: dict) -> list[str]:
    """What is wrong with a service."""
    found = {
        "runs as root": service.get("user", "0").split(":")[0] in {"0", "root"},
        "has no init": not service.get("init"),
        "may write to its root": not service.get("read_only"),
        "keeps capabilities": service.get("cap_drop") != ["ALL"] or "cap_add" in service,
        "may gain privileges": "no-new-privileges:true" not in service.get("security_opt", []),
        "is privileged": service.get("privileged", False),
        "shares the host's namespaces": "host"
        in {service.get(key) for key in ("network_mode", "pid", "ipc", "userns_mode")},
        "names a registry": bool(HOST.match(service.get("image", ""))),
        "logs without limit": "max-size" not in service.get("logging", {}).get("options", {}),
        "is not started again after a crash": service.get("restart", "no") == "no",
        "has no time to stop": "stop_grace_period" not in service,
        "may write to the inputs": any(
            volume["target"] == "/inputs" and not volume.get("read_only")
            for volume in service.get("volumes", [])
        ),
        "reaches the engine": any(
            "docker.sock" in str(volume.get("source")) for volume in service.get("volumes", [])
        ),
    }
    if name == "server":
        check = service.get("healthcheck", {}).get("test", [])
        found["has no health check that asks the server"] = "status" not in check
        policy = service.get("restart", "")
        # always and unless-stopped would start a finished run again
        found["is started again after a finished run"] = not policy.startswith("on-failure")
    return [f"{name} {fault}" for fault, is_so in found.items() if is_so]


services = json.load(sys.stdin)["services"]
if not services:
    sys.exit("no services: is a profile missing?")
wrong = [fault for name, service in services.items() for fault in faults(name, service)]
if wrong:
    sys.exit("\n".join(wrong))
