from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

from orchestra.provenance.environment import allowed, capture, packages


def test_no_secret_is_ever_recorded() -> None:
    secrets = {
        "HF_TOKEN": "s3cret",
        "HUGGING_FACE_HUB_TOKEN": "s3cret",
        "WANDB_API_KEY": "s3cret",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "PASSWORD": "s3cret",
        "DATABASE_URL": "postgres://me:s3cret@host/db",
        "HTTPS_PROXY": "http://me:s3cret@proxy",
        "NCCL_AUTH_TOKEN": "s3cret",
        "TORCH_HUB_PASSPHRASE": "s3cret",
        "SOMETHING_NEW": "s3cret",
        "PYTHONPATH": "https://me:s3cret@host/lib",
        "CUDA_MIRROR": "http://token-s3cret@host/cuda",
    }
    assert "s3cret" not in json.dumps(capture(secrets))


def test_what_matters_is_recorded() -> None:
    kept = {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "NCCL_P2P_DISABLE": "1",
        "OMP_NUM_THREADS": "4",
        "LD_PRELOAD": "/lib/x.so",
        "VIRTUAL_ENV": "/venv",
    }
    assert allowed({**kept, "USER": "me", "PATH": "/bin"}) == kept


def test_versions_are_those_of_the_metadata() -> None:
    found = packages()
    for name in ("pydantic", "sqlite-utils", "gitpython", "typing-extensions"):
        assert found[name] == metadata.version(name)


def test_machine_and_python() -> None:
    document = capture({})
    assert document["python"]["executable"] == sys.executable
    assert document["machine"]["cpus"] >= document["machine"]["cpus_usable"] >= 1
    assert document["machine"]["memory_bytes"] > 10**8
    assert json.loads(json.dumps(document)) == document


def test_no_package_is_imported() -> None:
    program = (
        "import sys\nfrom orchestra.provenance.environment import capture\ncapture()\n"
        "from orchestra.provenance.client import start_snapshot\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "numpy", "git", "pydantic", "transformers"}
