// Stands in for the NVIDIA driver, libcuda, where there is none: to link with, and to rehearse what
// the program says. Every function answers CUDA_ERROR_UNKNOWN, 999. The environment may say
// otherwise of those that are called before anything is computed:
//
//   CUDA_STUB="init=0 driver=13000 count=1 major=8 minor=9 context=2"
//
// `init` and `context` are codes that cuInit and cuDevicePrimaryCtxRetain answer (0 is success, 2 is
// out of memory), `driver` the version of CUDA that the driver is for, `count` how many GPUs there
// are, `major` and `minor` their compute capability.

#include <stdlib.h>
#include <string.h>

static int said(const char *name, int otherwise) {
    const char *all = getenv("CUDA_STUB");
    size_t length = strlen(name);
    for (const char *at = all; at && *at; at = strchr(at, ' ')) {
        while (*at == ' ') at++;
        if (!strncmp(at, name, length) && at[length] == '=') return atoi(at + length + 1);
    }
    return otherwise;
}

int cuInit(unsigned flags) {
    (void)flags;
    return said("init", 999);
}

int cuDriverGetVersion(int *version) {
    *version = said("driver", 13000);
    return 0;
}

int cuDeviceGetCount(int *count) {
    *count = said("count", 1);
    return 0;
}

int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return 0;
}

int cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    strncpy(name, "a stub", length);
    return 0;
}

// 75 and 76 are the compute capability's parts.
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? said("major", 8) : attribute == 76 ? said("minor", 0) : 0;
    return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    (void)device;
    *context = 0;
    return said("context", 999);
}

#include "others.h"
