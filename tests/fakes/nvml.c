/* A stand-in for libnvidia-ml.so.1 for tests on machines without a GPU.

   It reads the file named by FAKE_NVML at each call, so a test edits GPUs while a program runs:

       gpu UUID TOTAL_MIB USED_MIB UTILISATION_PERCENT NAME...
       process PID MEMORY_MIB            (computes on the gpu above it)
       graphics PID MEMORY_MIB           (draws on the gpu above it)
       power WATTS LIMIT_WATTS           (of the gpu above it; 0 without)
       temperature CELSIUS               (of the gpu above it; 0 without)
       mig                               (the gpu above it is cut into instances)
       link INDEX KIND                   (of the gpu above it with another: nvlink, pix, phb, sys)
       refuse FIELD                      (of the gpu above it: memory, utilisation, processes, uuid,
                                         name, power, temperature, graphics, mig, links)
       say                               (the library prints a line at each call)
       hang                              (the next call never returns)
       broken                            (nvmlInit fails as with a driver mismatch)

   A missing file means no GPU. Only what pynvml's callers in this project use is here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_GPUS 64
#define MAX_PROCESSES 64
enum { NVLINK = -1, PIX = 10, PHB = 30, SYS = 50, NVLINK_CAPABILITY = 2, LINK_REFUSED = 5 };
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, TOO_SMALL = 7, DRIVER_NOT_LOADED = 9 };
typedef unsigned long long u64;
typedef struct { unsigned pid; u64 memory; unsigned instance, compute; } Process;
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } Memory2;
typedef struct { unsigned gpu, memory; } Rates;
typedef struct {
    char uuid[80], name[80], refused[128];
    u64 total, used;
    unsigned utilisation, power, limit, temperature, mig;
    struct { unsigned count; Process list[MAX_PROCESSES]; } computing, drawing;
    int links[MAX_GPUS]; /* 0: not told, NVLINK, or 1 + NVML's topology level */
} Gpu;

static Gpu gpus[MAX_GPUS];
static unsigned gpu_count;
static int broken;

static void add(unsigned *count, Process *list, unsigned pid, u64 memory) {
    if (*count == MAX_PROCESSES) return;
    list[*count].pid = pid;
    list[(*count)++].memory = memory << 20;
}

static int level(const char *kind) {
    if (!strcmp(kind, "nvlink")) return NVLINK;
    return 1 + (!strcmp(kind, "pix") ? PIX : !strcmp(kind, "phb") ? PHB : SYS);
}

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
        unsigned pid, other;
        if (!strncmp(line, "hang", 4)) for (;;) pause();
        if (!strncmp(line, "broken", 6)) broken = 1;
        if (!strncmp(line, "gpu ", 4) && gpu_count < MAX_GPUS) {
            gpu = &gpus[gpu_count++];
            sscanf(line, "gpu %79s %llu %llu %u %79[^\n]", gpu->uuid, &gpu->total, &gpu->used,
                   &gpu->utilisation, gpu->name);
            gpu->total <<= 20;
            gpu->used <<= 20;
        }
        if (!strncmp(line, "say", 3)) { puts("a driver that talks"); fflush(stdout); }
        if (!gpu) continue;
        if (sscanf(line, "process %u %llu", &pid, &memory) == 2)
            add(&gpu->computing.count, gpu->computing.list, pid, memory);
        if (sscanf(line, "graphics %u %llu", &pid, &memory) == 2)
            add(&gpu->drawing.count, gpu->drawing.list, pid, memory);
        sscanf(line, "power %u %u", &gpu->power, &gpu->limit);
        sscanf(line, "temperature %u", &gpu->temperature);
        if (!strncmp(line, "mig", 3)) gpu->mig = 1;
        if (sscanf(line, "link %u %79s", &other, word) == 2 && other < MAX_GPUS)
            gpu->links[other] = level(word);
        if (sscanf(line, "refuse %31s", word) == 1)
            strcat(strncat(gpu->refused, word, 31), " ");
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
    rates->memory = gpu->utilisation / 2;
    return OK;
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    Gpu *gpu = get(handle, "power");
    if (!gpu) return NOT_SUPPORTED;
    *milliwatts = gpu->power * 1000;
    return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts) {
    Gpu *gpu = get(handle, "power");
    if (!gpu) return NOT_SUPPORTED;
    *milliwatts = gpu->limit * 1000;
    return OK;
}
int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *celsius) {
    Gpu *gpu = get(handle, "temperature");
    (void)sensor;
    if (!gpu) return NOT_SUPPORTED;
    *celsius = gpu->temperature;
    return OK;
}
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *pending) {
    Gpu *gpu = get(handle, "mig");
    if (!gpu) return NOT_SUPPORTED;
    *now = *pending = gpu->mig;
    return OK;
}
static int link_of(void *one, void *other) { /* told by either of the two */
    Gpu *first = get(one, "links"), *second = get(other, "links");
    if (!first || !second) return 0;
    return first->links[second - gpus] ? first->links[second - gpus]
                                       : second->links[first - gpus];
}
int nvmlDeviceGetP2PStatus(void *one, void *other, unsigned capability, int *status) {
    int link = link_of(one, other);
    if (!link) return NOT_SUPPORTED;
    *status = capability == NVLINK_CAPABILITY && link == NVLINK ? OK : LINK_REFUSED;
    return OK;
}
int nvmlDeviceGetTopologyCommonAncestor(void *one, void *other, int *path) {
    int link = link_of(one, other);
    if (!link) return NOT_SUPPORTED;
    *path = link == NVLINK ? SYS : link - 1;
    return OK;
}
static int copy(unsigned *room, Process *out, unsigned count, const Process *list) {
    unsigned fits = *room;
    *room = count;
    if (!count) return OK;
    if (fits < count || !out) return TOO_SMALL;
    memcpy(out, list, count * sizeof *list);
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, Process *out) {
    Gpu *gpu = get(handle, "processes");
    return gpu ? copy(count, out, gpu->computing.count, gpu->computing.list) : NOT_SUPPORTED;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, Process *out) {
    Gpu *gpu = get(handle, "graphics");
    return gpu ? copy(count, out, gpu->drawing.count, gpu->drawing.list) : NOT_SUPPORTED;
}
