/* Devices, contexts and memory. */
#include "driver.h"

/* A device address is the host's plus this: neither side can use the other's by accident. */
static const uint64_t DEVICE = 1ull << 60;
static block *blocks;

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    ENTER(DRIVER);
    *device = 0;
    if (ordinal) FAIL(CUDA_ERROR_INVALID_DEVICE, "there is one device, 0, not %d", ordinal);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetCount(int *count) { ENTER(DRIVER); *count = 1; return CUDA_SUCCESS; }
EXPORT CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    ENTER(DRIVER);
    *major = capability / 10;
    *minor = capability % 10;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    ENTER(DRIVER);
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = capability / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = capability % 10; break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = unified; break;
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY: *value = 1; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    default: FAIL(CUDA_ERROR_NOT_SUPPORTED, "attribute %d is not in this driver", (int)attribute);
    }
    return CUDA_SUCCESS;
}

static CUcontext primary(void) {
    for (object *o = objects; o; o = o->next)
        if (o->kind == CONTEXT && !o->dead && ((CUcontext)o)->references) return (CUcontext)o;
    return NULL;
}
EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    ENTER(DRIVER);
    if (!(*context = primary())) *context = make(CONTEXT, sizeof **context);
    (*context)->references++;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    ENTER(DRIVER);
    CUcontext context = primary();
    if (!context) FAIL(CUDA_ERROR_INVALID_CONTEXT, "the primary context was not retained as often");
    if (--context->references) return CUDA_SUCCESS;
    finish_all();
    end_context(context);
    return CUDA_SUCCESS;
}
#if CUDA_VERSION >= 13000
EXPORT CUresult cuCtxCreate(CUcontext *context, CUctxCreateParams *parameters, unsigned flags, CUdevice device) {
#else
EXPORT CUresult cuCtxCreate(CUcontext *context, unsigned flags, CUdevice device) {
#endif
    ENTER(DRIVER);
    if (depth == STACK) FAIL(CUDA_ERROR_UNKNOWN, "the stack of contexts is full");
    stack[depth++] = *context = make(CONTEXT, sizeof **context);
    return CUDA_SUCCESS;
}
static CUresult destroy(const char *where, CUcontext context) {
    if (is_old(context)) {
        if (depth && stack[depth - 1] == context) depth--;
        return CUDA_SUCCESS;
    }
    if (!alive(context, CONTEXT) || context->references) {
        report(where, "no context that cuCtxCreate made");
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    finish_all();
    end_context(context);
    if (depth && stack[depth - 1] == context) depth--;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxDestroy(CUcontext context) { ENTER(DRIVER); return destroy(__func__, context); }
EXPORT CUresult cuCtxDetach(CUcontext context) { ENTER(DRIVER); return destroy(__func__, context); }
EXPORT CUresult cuCtxPushCurrent(CUcontext context) {
    ENTER(DRIVER);
    if (!alive(context, CONTEXT) && !is_old(context)) FAIL(CUDA_ERROR_INVALID_CONTEXT, "no context that is in use");
    if (depth == STACK) FAIL(CUDA_ERROR_UNKNOWN, "the stack of contexts is full");
    stack[depth++] = context;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxPopCurrent(CUcontext *context) {
    ENTER(DRIVER);
    if (!depth) FAIL(CUDA_ERROR_INVALID_CONTEXT, "no context is current on this thread");
    depth--;
    if (context) *context = stack[depth];
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetDevice(CUdevice *device) { ENTER(CURRENT); *device = 0; return CUDA_SUCCESS; }

/* the memory at an address, freed or not */
block *find_block(uint64_t address, size_t size, int on_host) {
    block *freed = NULL;
    for (block *b = blocks; b; b = b->next) {
        if (!on_host && b->pinned && !b->mapped) continue;
        if (on_host && !b->pinned) continue;
        uint64_t start = (uint64_t)b->host + (on_host ? 0 : DEVICE);
        if (address < start || address + size > start + b->size) continue;
        if (!b->dead) return b;
        freed = b;
    }
    return freed;
}
/* Sets the block of a range. 0 where there is none in use, which is reported. */
int resolve(range *range, const char *what) {
    range->block = find_block(range->address, range->size, range->on_host);
    if (range->block && !range->block->dead) return 1;
    report(what, "%zu bytes at %#llx %s", range->size, (unsigned long long)range->address,
           range->block ? "are used after they were freed" : "are not memory of this driver");
    return 0;
}
void *host_address(const range *range) { return (void *)(range->address - (range->on_host ? 0 : DEVICE)); }
void forget_memory(void) {
    for (block *b = blocks, *next; b; b = next) {
        next = b->next;
        free(b->host);
        free(b);
    }
    blocks = NULL;
}
long count_blocks(int pinned) {
    long count = 0;
    for (block *b = blocks; b; b = b->next) count += !b->dead && b->pinned == pinned;
    return count;
}
void end_memory(CUcontext context) {
    for (block *b = blocks; b; b = b->next) {
        if (b->dead || b->context != context) continue;
        report("leak", "%zu bytes of %s memory were left when their context ended", b->size, b->pinned ? "pinned" : "device");
        b->dead = 1;
    }
}
static size_t used(void) {
    size_t bytes = 0;
    for (block *b = blocks; b; b = b->next) bytes += b->dead || b->pinned ? 0 : b->size;
    return bytes;
}
static CUresult allocate(const char *where, char **host, size_t size, int pinned, int mapped) {
    if (!size) {
        report(where, "0 bytes");
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!pinned && used() + size > (size_t)most_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    block *made = calloc(1, sizeof *made);
    *made = (block){ .next = blocks, .size = size, .pinned = pinned, .mapped = mapped, .context = stack[depth - 1] };
    made->host = aligned_alloc(512, (size + 511) / 512 * 512);
    memset(made->host, 0xCD, size);         /* what nobody wrote is no plausible number */
    blocks = made;
    *host = made->host;
    return CUDA_SUCCESS;
}
static CUresult release(const char *where, uint64_t address, int pinned) {
    block *found = find_block(address, 1, pinned);
    if (!found || found->dead || found->pinned != pinned || (uint64_t)found->host + (pinned ? 0 : DEVICE) != address) {
        report(where, "%#llx is not memory that is in use", (unsigned long long)address);
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (is_pending(found)) {
        report(where, "%zu bytes are freed while work on them is pending", found->size);
        finish_all();
    }
    found->dead = 1;
    memset(found->host, 0xDD, found->size);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemAlloc(CUdeviceptr *address, size_t size) {
    ENTER(SAFE);
    char *host = NULL;
    CUresult error = allocate(__func__, &host, size, 0, 0);
    if (!error) *address = (uint64_t)host + DEVICE;
    return error;
}
EXPORT CUresult cuMemFree(CUdeviceptr address) { ENTER(SAFE); return release(__func__, address, 0); }
EXPORT CUresult cuMemHostAlloc(void **host, size_t size, unsigned flags) {
    ENTER(SAFE);
    return allocate(__func__, (char **)host, size, 1, !!(flags & CU_MEMHOSTALLOC_DEVICEMAP));
}
EXPORT CUresult cuMemFreeHost(void *host) { ENTER(SAFE); return release(__func__, (uint64_t)host, 1); }
EXPORT CUresult cuMemHostGetDevicePointer(CUdeviceptr *address, void *host, unsigned flags) {
    ENTER(CURRENT);
    block *found = find_block((uint64_t)host, 1, 1);
    if (flags || !found || found->dead || !found->mapped)
        FAIL(CUDA_ERROR_INVALID_VALUE, "the memory is not pinned with CU_MEMHOSTALLOC_DEVICEMAP");
    *address = (uint64_t)host + DEVICE;
    return CUDA_SUCCESS;
}
/* Where a test finds the bytes at a device address; NULL where there are none in use. */
EXPORT void *testcuda_host(uint64_t address, size_t size) {
    pthread_mutex_lock(&lock);
    block *found = find_block(address, size, 0);
    pthread_mutex_unlock(&lock);
    return found && !found->dead ? (void *)(address - DEVICE) : NULL;
}

static op copy(uint64_t to, int to_host, uint64_t from, int from_host, size_t size) {
    return (op){ .work = COPY, .count = 2, .ranges = { { to, size, 1, to_host, NULL }, { from, size, 0, from_host, NULL } } };
}
EXPORT CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t size) {
    ENTER(SAFE);
    op work = copy(to, 0, (uint64_t)from, 1, size);
    return issue_and_wait(&work, __func__);
}
EXPORT CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size, CUstream stream) {
    ENTER(CURRENT);
    op work = copy(to, 0, (uint64_t)from, 1, size);
    return issue(stream, &work, __func__);
}
EXPORT CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t size, CUstream stream) {
    ENTER(CURRENT);
    op work = copy((uint64_t)to, 1, from, 0, size);
    return issue(stream, &work, __func__);
}
EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, CUstream stream) {
    ENTER(CURRENT);
    op work = { .work = SET, .value = value, .count = 1, .ranges = { { to, size, 1, 0, NULL } } };
    return issue(stream, &work, __func__);
}
