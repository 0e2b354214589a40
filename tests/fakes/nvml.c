/* A stand-in for libnvidia-ml.so.1 for tests on machines without a GPU.

   It reads the file named by FAKE_NVML at each call, so a test edits GPUs while a program runs:

       gpu UUID TOTAL_MIB USED_MIB UTILISATION_PERCENT NAME...
       process PID MEMORY_MIB            (belongs to the gpu above it)
       refuse FIELD                      (of the gpu above it: memory, utilisation, processes, uuid)
       hang                              (the next call never returns)
       broken                            (nvmlInit fails as with a driver mismatch)

   A missing file means no GPU. Only what pynvml's callers in this project use is here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_GPUS 64
#define MAX_PROCESSES 64
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, TOO_SMALL = 7, DRIVER_NOT_LOADED = 9 };
typedef unsigned long long u64;
typedef struct { unsigned pid; u64 memory; unsigned instance, compute; } Process;
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } Memory2;
typedef struct { unsigned gpu, memory; } Rates;
typedef struct {
    char uuid[80], name[80], refused[128];
    u64 total, used;
    unsigned utilisation, count;
    Process processes[MAX_PROCESSES];
} Gpu;

static Gpu gpus[MAX_GPUS];
static unsigned gpu_count;
static int broken;

static void load(void) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256], word[80];
    gpu_count = 0;
    broken = 0;
    memset(gpus, 0, sizeof gpus);
    while (file && fgets(line, sizeof line, file)) {
        Gpu *gpu = gpu_count ? &gpus[gpu_count - 1] : NULL;
        u64 memory;
        unsigned pid;
        if (!strncmp(line, "hang", 4)) for (;;) pause();
        if (!strncmp(line, "broken", 6)) broken = 1;
        if (!strncmp(line, "gpu ", 4) && gpu_count < MAX_GPUS) {
            gpu = &gpus[gpu_count++];
            sscanf(line, "gpu %79s %llu %llu %u %79[^\n]", gpu->uuid, &gpu->total, &gpu->used,
                   &gpu->utilisation, gpu->name);
            gpu->total <<= 20;
            gpu->used <<= 20;
        } else if (gpu && gpu->count < MAX_PROCESSES
                   && sscanf(line, "process %u %llu", &pid, &memory) == 2) {
            gpu->processes[gpu->count].pid = pid;
            gpu->processes[gpu->count++].memory = memory << 20;
        } else if (gpu && sscanf(line, "refuse %31s", word) == 1) {
            strcat(strncat(gpu->refused, word, 31), " ");
        }
    }
    if (file) fclose(file);
}

static Gpu *get(void *handle, const char *field) {
    u64 index = (u64)handle - 1;
    load();
    if (index >= gpu_count || strstr(gpus[index].refused, field)) return NULL;
    return &gpus[index];
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; load(); return broken ? DRIVER_NOT_LOADED : OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Not Supported";
}
int nvmlDeviceGetCount_v2(unsigned *count) { load(); *count = gpu_count; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    load();
    if (index >= gpu_count) return INVALID;
    *handle = (void *)((u64)index + 1);
    return OK;
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned length) {
    Gpu *gpu = get(handle, "uuid");
    if (!gpu) return NOT_SUPPORTED;
    snprintf(text, length, "%s", gpu->uuid);
    return OK;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned length) {
    Gpu *gpu = get(handle, "name");
    if (!gpu) return NOT_SUPPORTED;
    snprintf(text, length, "%s", gpu->name);
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(void *handle, Memory2 *memory) {
    Gpu *gpu = get(handle, "memory");
    if (!gpu) return NOT_SUPPORTED;
    memory->total = gpu->total;
    memory->used = gpu->used;
    memory->free = gpu->total - gpu->used;
    memory->reserved = 0;
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    (void)handle;
    (void)memory;
    return NOT_SUPPORTED;
}
int nvmlDeviceGetUtilizationRates(void *handle, Rates *rates) {
    Gpu *gpu = get(handle, "utilisation");
    if (!gpu) return NOT_SUPPORTED;
    rates->gpu = gpu->utilisation;
    rates->memory = 0;
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, Process *out) {
    Gpu *gpu = get(handle, "processes");
    unsigned room = *count, i;
    if (!gpu) return NOT_SUPPORTED;
    *count = gpu->count;
    if (!gpu->count) return OK;
    if (room < gpu->count || !out) return TOO_SMALL;
    for (i = 0; i < gpu->count; i++) out[i] = gpu->processes[i];
    return OK;
}
