"""Mutations of patches for microcontrollers under sanitizers: each is refused by a code, or added and runs in bounds.

    python benchmarks/verify_c_patches.py [--count N]

N mutations (100,000) are shared by four networks, two layouts, gcc and clang where they are there; half of them with
sizes and CRC-32 made right again, so that only the checks of numbers stand in their way. The mutator is
tests/helpers/mutate_patch.c. Of mutations that are not repaired, none may be added.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from export import write_c
from export.c_code.machines import host
from export.c_code.patch import task_patch
from tests.helpers.c_code import golden, mutate
from tests.helpers.networks import Recipe, random_network

RECIPES = {
    "linear layers of many masks": Recipe("mlp", tasks=4, mask_kinds=("random", "full", "one weight"), seed=1),
    "shared words": Recipe("mlp", tasks=5, density=0.9, widths=(60, 40, 20), seed=2),
    "residual, 2 banks": Recipe("residual", tasks=4, banks=2, density=0.9, extremes=True, multipliers=True, seed=8),
    "strided convolutions": Recipe("resnet", tasks=3, density=0.9, signed_input=True, seed=10),
}
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def has_sanitizers(compiler):
    """Whether a compiler makes such programs here; what clang needs is a package of its own (libclang-rt-14-dev)."""
    command = [compiler, *SANITIZE, "-x", "c", "-", "-o", "/dev/null"]
    if (
        shutil.which(compiler)
        and not subprocess.run(command, input=b"int main(void) { return 0; }", check=False).returncode
    ):
        return True
    print(f"{compiler}: has no sanitizers here")
    return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    compilers = [name for name in ("gcc", "clang") if has_sanitizers(name)]
    each = -(-parser.parse_args().count // (len(RECIPES) * 2 * len(compilers) * 2))
    for name, recipe in RECIPES.items():
        new = random_network(recipe)
        base = new.first_tasks(len(new.tasks) - 1)
        for optimize in ("balanced", "speed"):
            patch = b"".join(task_patch(base, base, new, optimize))
            for compiler in compilers:
                with tempfile.TemporaryDirectory() as folder:
                    write_c(base, Path(folder) / "c", golden=golden(base, 1), optimize=optimize, max_classes=10)
                    machine = host(compiler, *SANITIZE)
                    for repaired in (False, True):
                        found = mutate(Path(folder) / "c", patch, each, repaired, machine)
                        told = "{:,} unchanged, {:,} refused, {:,} added".format(*found)
                        how = "repaired" if repaired else "as they are"
                        print(f"{name}, {optimize}, {compiler}, {how}: {told}", flush=True)
                        if not repaired and found[2]:
                            raise SystemExit("a mutation was added")


if __name__ == "__main__":
    main()
