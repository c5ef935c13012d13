"""The environment variable of a parameter.

Programs act upon many variables by their names alone: LoRA's `rank` as `RANK=8` makes torch.distributed believe that it
is process 8. A parameter whose variable would be one of those gets another: `PARAM_RANK`.
"""

import re

_NOT_IN_VARIABLE = re.compile(r"[^A-Z0-9_]")
_INSTEAD = "PARAM_"

DAEMONS = frozenset(
    {"OUTPUT_DIR", "DATA_DIR", "EXPERIMENT_ID", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"}
    | {"RISEML_JOB"}  # by which a job's processes are found when it is killed
)
"""The variables that rised sets for every job. Not even `env` may set them."""

# The shell and login, libc, X; what bash sets or obeys; proxies and certificates; compilers that torch starts.
_SYSTEMS = """
    PATH HOME USER LOGNAME SHELL PWD OLDPWD IFS ENV CDPATH MAIL MAILPATH PS1 PS2 PS4 TMPDIR TMP TEMP TERM TERMINFO
    COLUMNS LINES HOSTNAME DISPLAY EDITOR VISUAL PAGER LANG LANGUAGE TZ TZDIR NLSPATH LOCPATH HOSTALIASES RES_OPTIONS
    POSIXLY_CORRECT UID EUID PPID GROUPS RANDOM SRANDOM SECONDS EPOCHSECONDS EPOCHREALTIME LINENO OPTARG OPTIND OPTERR
    SHLVL SHELLOPTS BASHOPTS DIRSTACK FUNCNAME FUNCNEST PIPESTATUS GLOBIGNORE HISTFILE IGNOREEOF TIMEFORMAT TMOUT REPLY
    PROMPT_COMMAND HOSTTYPE OSTYPE MACHTYPE VIRTUAL_ENV HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE CC CXX CPP LD CFLAGS CXXFLAGS LDFLAGS MAX_JOBS
    NO_COLOR FORCE_COLOR CLICOLOR CLICOLOR_FORCE CI
"""
# By which the processes of one training find each other; threads; devices; defaults of common libraries.
_TRAININGS = """
    RANK LOCAL_RANK NODE_RANK GROUP_RANK ROLE_RANK CROSS_RANK MACHINE_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_WORLD_SIZE
    ROLE_WORLD_SIZE LOCAL_SIZE CROSS_SIZE ROLE_NAME MASTER_ADDR MASTER_PORT NUM_NODES NNODES PL_GLOBAL_SEED
    BLIS_NUM_THREADS NUMEXPR_NUM_THREADS NUMEXPR_MAX_THREADS NUMBA_NUM_THREADS VECLIB_MAXIMUM_THREADS GOMP_CPU_AFFINITY
    HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK CUBLAS_WORKSPACE_CONFIG
    TOKENIZERS_PARALLELISM MPLBACKEND MPLCONFIGDIR KERAS_BACKEND KERAS_HOME GLOO_SOCKET_IFNAME
"""
_NAMES = DAEMONS.union(_SYSTEMS.split(), _TRAININGS.split())
_PREFIXES = (
    *("LC_", "LD_", "MALLOC_", "XDG_", "BASH_", "PYTHON", "PIP_", "CONDA_", "RISEML_"),
    *("CUDA_", "NVIDIA_", "NCCL_", "OMP_", "KMP_", "MKL_", "OPENBLAS_"),
    *("SLURM_", "PBS_", "OMPI_", "PMI_", "PMIX_", "I_MPI_", "MV2_", "UCX_"),
    *(
        "TORCH_",
        "PYTORCH_",
        "TORCHELASTIC_",
        "TORCHINDUCTOR_",
        "TORCHDYNAMO_",
        "TRITON_",
        "PL_TRAINER_",
    ),
    *("ACCELERATE_", "DEEPSPEED_", "HOROVOD_", "TF_", "XLA_", "JAX_"),
    *("HF_", "TRANSFORMERS_", "WANDB_", "MLFLOW_"),
)


def spelled(name: str) -> str:
    """A parameter's name as a variable is spelled: `lr-decay` → `LR_DECAY`."""
    return _NOT_IN_VARIABLE.sub("_", name.upper())


def has_meaning(variable: str) -> bool:
    """Whether programs act upon an environment variable of this name."""
    return variable in _NAMES or variable.startswith(_PREFIXES)


def variable(name: str) -> str:
    """The environment variable of parameter `name`: `lr-decay` → `LR_DECAY`, `rank` → `PARAM_RANK`."""
    own = spelled(name)
    return _INSTEAD + own if has_meaning(own) else own
