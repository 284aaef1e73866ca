/* Memory and copies, devices and contexts. */

static CUresult allocate(uint64_t *host, size_t size, kind kind, int mapped) {
    size_t used = size;
    for (object *o = objects; o; o = o->next) if (o->kind == DEVICE && !o->dead) used += ((block *)o)->size;
    if (!size) return report(CUDA_ERROR_INVALID_VALUE, "0 bytes");
    if (kind == DEVICE && used > (size_t)most_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    block *made = make(kind, sizeof *made);
    made->size = size, made->mapped = mapped;
    made->host = aligned_alloc(512, (size + 511) / 512 * 512);
    memset(made->host, 0xCD, size);         /* what nobody wrote is no plausible number */
    *host = (uint64_t)made->host;
    return CUDA_SUCCESS;
}
static CUresult release(uint64_t address, kind kind) {
    range memory = { address, 1, .on_host = kind == PINNED };
    block *found = find_block(address, 1, kind == PINNED);
    if (!found || found->object.dead || found->object.kind != kind || host_address(&memory) != found->host)
        return report(CUDA_ERROR_INVALID_VALUE, "%#llx is not memory that is in use", (unsigned long long)address);
    if (is_pending(found)) {
        report(0, "%zu bytes are freed while work on them is pending", found->size);
        finish_all();
    }
    found->object.dead = 1;
    memset(found->host, 0xDD, found->size);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemAlloc(CUdeviceptr *address, size_t size) {
    ENTER(SAFE);
    uint64_t host;
    CUresult error = allocate(&host, size, DEVICE, 0);
    if (!error) *address = host + ON_DEVICE;
    return error;
}
EXPORT CUresult cuMemHostAlloc(void **host, size_t size, unsigned flags) {
    ENTER(SAFE);
    return allocate((uint64_t *)host, size, PINNED, flags & CU_MEMHOSTALLOC_DEVICEMAP);
}
EXPORT CUresult cuMemFree(CUdeviceptr address) { ENTER(SAFE); return release(address, DEVICE); }
EXPORT CUresult cuMemFreeHost(void *host) { ENTER(SAFE); return release((uint64_t)host, PINNED); }
EXPORT CUresult cuMemHostGetDevicePointer(CUdeviceptr *address, void *host, unsigned flags) {
    ENTER(CURRENT);
    block *found = find_block((uint64_t)host, 1, 1);
    if (!found || found->object.dead || !found->mapped)
        return report(CUDA_ERROR_INVALID_VALUE, "the memory is not pinned with CU_MEMHOSTALLOC_DEVICEMAP");
    *address = (uint64_t)host + ON_DEVICE;
    return CUDA_SUCCESS;
}
/* Where a test finds the bytes at a device address; NULL where there are none in use. */
EXPORT void *testcuda_host(uint64_t address, size_t size) {
    LOCKED;
    block *found = find_block(address, size, 0);
    return found && !found->object.dead ? (void *)(address - ON_DEVICE) : NULL;
}

static CUresult copy(range to, range from, CUstream stream) {
    op work = { .work = COPY, .count = 2, .ranges = { to, from } };
    return issue(stream, &work);
}
EXPORT CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size, CUstream stream) {
    ENTER(CURRENT);
    return copy((range){ to, size, .write = 1 }, (range){ (uint64_t)from, size, .on_host = 1 }, stream);
}
EXPORT CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t size, CUstream stream) {
    ENTER(CURRENT);
    return copy((range){ (uint64_t)to, size, .write = 1, .on_host = 1 }, (range){ from, size }, stream);
}

/* ---- devices and contexts ---- */

EXPORT CUresult cuInit(unsigned flags) { ENTER(NOTHING); initialised = 1; return CUDA_SUCCESS; }
EXPORT CUresult cuGetErrorString(CUresult error, const char **text) {
    static __thread char buffer[40];
    snprintf(buffer, sizeof buffer, error == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "CUDA error %d", error);
    *text = buffer;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    ENTER(DRIVER);
    *device = 0;
    return ordinal ? report(CUDA_ERROR_INVALID_DEVICE, "there is one device, 0, not %d", ordinal) : CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    ENTER(DRIVER);
    return *major = capability / 10, *minor = capability % 10, CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    ENTER(DRIVER);
    int maps = attribute == CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY;
    *value = maps || unified;
    if (maps || attribute == CU_DEVICE_ATTRIBUTE_INTEGRATED) return CUDA_SUCCESS;
    return report(CUDA_ERROR_NOT_SUPPORTED, "attribute %d is not in this driver", (int)attribute);
}
static CUcontext primary;

static CUresult push(CUcontext context) {
    if (depth == STACK) return report(CUDA_ERROR_UNKNOWN, "the stack of contexts is full");
    stack[depth++] = context;
    return CUDA_SUCCESS;
}
static void end_context(CUcontext context) {
    finish_all();
    for (object *o = objects; o; o = o->next) {
        if (o->context != context || o->dead || o->kind == CONTEXT) continue;
        size_t size = o->kind == DEVICE || o->kind == PINNED ? ((block *)o)->size : 0;
        if (size) report(0, "%zu bytes of %s memory were left when their context ended", size, kind_names[o->kind]);
        else if (o->kind != FUNCTION) report(0, "a %s was left when its context ended", kind_names[o->kind]);
        o->dead = 1;
    }
    context->object.dead = 1;
}
EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    ENTER(DRIVER);
    if (!primary) primary = make(CONTEXT, sizeof *primary);
    *context = primary;
    primary->references++;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    ENTER(DRIVER);
    if (!primary) return report(CUDA_ERROR_INVALID_CONTEXT, "the primary context was not retained as often");
    if (--primary->references) return CUDA_SUCCESS;
    end_context(primary);
    primary = NULL;
    return CUDA_SUCCESS;
}
#if CUDA_VERSION >= 13000
EXPORT CUresult cuCtxCreate(CUcontext *context, CUctxCreateParams *parameters, unsigned flags, CUdevice device) {
#else
EXPORT CUresult cuCtxCreate(CUcontext *context, unsigned flags, CUdevice device) {
#endif
    ENTER(DRIVER);
    return push(*context = make(CONTEXT, sizeof **context));
}
EXPORT CUresult cuCtxDetach(CUcontext context) {
    ENTER(DRIVER);
    if (!is_old(context)) {
        CHECK(context, CONTEXT);
        end_context(context);
    }
    if (depth && stack[depth - 1] == context) depth--;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxPushCurrent(CUcontext context) {
    ENTER(DRIVER);
    if (alive(context, CONTEXT) || is_old(context)) return push(context);
    return report(CUDA_ERROR_INVALID_CONTEXT, "no context that is in use");
}
EXPORT CUresult cuCtxPopCurrent(CUcontext *context) {
    ENTER(DRIVER);
    if (!depth) return report(CUDA_ERROR_INVALID_CONTEXT, "no context is current on this thread");
    depth--;
    if (context) *context = stack[depth];
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetDevice(CUdevice *device) { ENTER(CURRENT); *device = 0; return CUDA_SUCCESS; }
EXPORT CUresult cuCtxSynchronize(void) { ENTER(SAFE); return finish_all(); }
