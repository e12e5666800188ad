"""The forecast of a run's cost against its real cost."""

import subprocess
import sys

import pytest
import torch

import nstlab as lab
from nstlab.optimise import memory
from nstlab.optimise.memory import check_memory, is_out_of_memory, memory_needed, size_that_fits

PEAK = """
import nstlab as lab
settings = lab.Settings(size=256, iterations=6, device="cpu", convolution="{convolution}")
list(lab.transfer(settings))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""

NO_MEMORY = """
import psutil, resource
import nstlab as lab
from nstlab.optimise import make_optimizer, set_up, steps
settings = lab.Settings(size=512, iterations=3, device="cpu", convolution="{convolution}")
objective, x = set_up(settings)
most = psutil.Process().memory_info().vms + 200_000_000
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    list(steps(objective, x, make_optimizer(x, settings), settings))
except lab.RunError as error:
    print(error)
"""


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the peak of a process")
@pytest.mark.parametrize("convolution", ["auto", "lean", "plain"])
def test_the_forecast_of_memory_is_what_a_run_takes(convolution):
    taken = 1024 * int(run(PEAK.format(convolution=convolution)))
    said = memory_needed(lab.Settings(size=256, history_size=6, convolution=convolution, device="cpu"), 256, 256)
    assert 0.75 < said / taken < 1.4


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to a limit of memory")
@pytest.mark.parametrize("convolution", ["auto", "plain"])
def test_no_memory_on_the_way_is_one_line_with_a_size(convolution):
    line = run(NO_MEMORY.format(convolution=convolution))
    assert line.startswith("out of memory at size=512: size=") and "\n" not in line
    assert 32 <= int(line.split("size=")[-1].split()[0]) < 512


def test_a_transfer_in_python_does_without_pandas():
    script = "import sys, nstlab as lab; [*lab.transfer(lab.Settings(size=48, iterations=1))]; print(*sys.modules)"
    loaded = run(script).split()
    assert "torch" in loaded and "pandas" not in loaded


ONEDNN = ("could not create a primitive", "could not execute a primitive", "could not create a memory object")


@pytest.mark.parametrize("text", ["std::bad_alloc", "DefaultCPUAllocator: can't allocate memory: you tried", *ONEDNN])
def test_a_lack_of_memory_is_known_whoever_says_it(text):
    assert is_out_of_memory(RuntimeError(text)) and not is_out_of_memory(ValueError(text))


@pytest.mark.parametrize(
    "text",
    [
        "tensors allocated on two devices",
        "could not create a primitive descriptor for the matmul primitive. Run workload with ONEDNN_VERBOSE=all",
    ],
)
def test_other_errors_are_not_taken_for_a_lack_of_memory(text):
    assert not is_out_of_memory(RuntimeError(text))


def test_too_large_a_picture_is_refused_with_a_size_that_is_not(monkeypatch, small):
    monkeypatch.setattr(memory, "memory_free", lambda device: 2e9)
    settings = lab.Settings(**{**small, "size": 4096})
    with pytest.raises(lab.RequestError, match=r"takes about .* GB of memory and 2\.0 GB are free: size=") as refused:
        next(lab.transfer(settings))
    fits = int(str(refused.value).split("size=")[-1].split()[0])
    check_memory(settings.with_(size=fits), fits, fits)
    with pytest.raises(lab.RequestError):
        check_memory(settings.with_(size=fits + 64), fits + 64, fits + 64)


def test_the_check_is_of_the_size_that_coarse_to_fine_ends_with(monkeypatch, small):
    monkeypatch.setattr(memory, "memory_free", lambda device: 1e9)
    with pytest.raises(lab.RequestError, match="size=1024 takes"):
        next(lab.transfer(lab.Settings(**{**small, "size": 1024, "scales": 4})))


def test_what_torch_keeps_of_a_gpus_memory_counts_as_free(monkeypatch):
    """Or else a second run in the same kernel is refused."""
    for name, value in {"mem_get_info": (1e9, 16e9), "memory_reserved": 9e9, "memory_allocated": 2e9}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(memory, "choose_device", torch.device)
    assert memory.memory_free("cuda") == 8e9 + memory.BASE_MEMORY


@pytest.mark.parametrize(
    "changed",
    [
        {"style": "swirl,waves", "content_masks": "astronaut-figure,astronaut-ground"},
        {"style_loss": "gaussian_w2"},
        {"style_loss": "sliced_wasserstein"},
        {"padding": "replicate"},
        {"content_layers": "relu1_2", "content_loss": "l1"},
    ],
)
def test_what_the_losses_keep_is_counted(changed):
    """At 768 pixels each of these takes at least 0.1 GB more, whatever the processor."""
    plain = lab.Settings(size=768, tile=None, device="cpu")
    assert memory_needed(plain.with_(**changed), 768, 768) > memory_needed(plain, 768, 768) + 0.1e9


def test_a_portrait_needs_less_than_a_square():
    settings = lab.Settings(size=1024, device="cpu")
    assert memory_needed(settings, 1024, 512) < memory_needed(settings, 1024, 1024)
    assert size_that_fits(settings, 1024, 512, 1e9) > size_that_fits(settings, 1024, 1024, 1e9)


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize("version", [1, 2])
def test_the_limits_of_a_processs_own_group_and_those_above_it_count(tmp_path, version):
    tree = tmp_path / "memory" if version == 1 else tmp_path
    names = ("memory__limit_in_bytes", "memory__usage_in_bytes", "total_inactive_file") if version == 1 else (
        "memory__max", "memory__current", "inactive_file")  # fmt: skip

    def limit(group, most, used, cached=0):
        files = {names[0]: f"{most}\n", names[1]: f"{used}\n", "memory__stat": f"rss 7\n{names[2]} {cached}\n"}
        write(tree / group, **files)

    line = "5:cpu,memory:/job/step\n0::/\n" if version == 1 else "0::/job/step\n"
    (tmp_path / "groups").write_text("3:cpuset:/\n" + line)

    def left():
        return memory.left_of_the_groups(tmp_path / "groups", tmp_path)

    assert left() == float("inf")
    limit("job", 1000, 600)
    assert left() == 400
    limit("job/step", 800, 500, cached=50)
    assert left() == 350
    limit("job/step", "max" if version == 2 else 2**63 - 4096, 500)
    assert left() == 400
    limit("", 300, 100)  # the group of a container, whose inner path is not mounted in it
    assert left() == 200
    assert memory.left_of_the_groups(tmp_path / "nothing", tmp_path) == float("inf")


def test_a_large_style_picture_is_counted(monkeypatch, small):
    settings = lab.Settings(**small, style_size=2048)
    alone = memory_needed(settings, 48, 48)
    assert memory_needed(settings, 48, 48, (2048, 2048)) > alone + 2e9
    assert memory_needed(settings, 48, 48, (48, 48)) == alone
    monkeypatch.setattr(memory, "memory_free", lambda device: 2e9)
    with pytest.raises(lab.RequestError, match=r"the style picture of 2048 x 1707 pixels takes .* smaller style_size"):
        next(lab.transfer(settings))
