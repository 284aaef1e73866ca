/* What all calls share: the lock, handles, reports, counts, injected failures; devices and contexts; and what tests ask
   and set. */
static int initialised;
static CUcontext primary;
static char reports[1 << 16];
static __thread const char *called;
typedef struct call { struct call *next; char name[64]; long count; CUresult error; } call;
static call *calls;

/* reports under the name of the function that was called, and returns the error */
__attribute__((format(printf, 2, 3))) static CUresult report(CUresult error, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t length = strlen(reports);
    snprintf(reports + length, sizeof reports - length, "%s: %s\n", called, text);
    return error;
}
static call *find_call(const char *name) {
    for (call *c = calls; c; c = c->next) if (!strcmp(c->name, name)) return c;
    call *made = calloc(1, sizeof *made);
    made->next = calls;
    snprintf(made->name, sizeof made->name, "%s", name);
    return calls = made;
}
static int is_old(const void *handle) {
    for (object *o = objects; o; o = o->next) if (o == handle) return o->old;
    return 0;
}
static int alive(const void *handle, kind kind) {
    for (object *o = objects; o; o = o->next) if (o == handle) return o->kind == kind && !o->dead;
    return 0;
}
static int enter(const char *name, need needs) {
    call *call = find_call(called = name);
    call->count++;
    if (call->error) return call->error;
    if (needs >= DRIVER && !initialised) return report(CUDA_ERROR_NOT_INITIALIZED, "called before cuInit");
    if (needs >= CURRENT) {
        if (!depth || !stack[depth - 1]) return report(CUDA_ERROR_INVALID_CONTEXT, "no context is current on this thread");
        if (is_old(stack[depth - 1])) return NOTHING_TO_DO;
        if (!alive(stack[depth - 1], CONTEXT)) return report(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the current context has ended");
        if (sticky) return sticky;
    }
    if (needs >= SAFE && capture_forbids())
        return report(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "not allowed while a stream is captured");
    return CUDA_SUCCESS;
}
static void leave(int *held) { pthread_mutex_unlock(&lock); }

static void *make(kind kind, size_t size) {
    object *made = calloc(1, size);
    *made = (object){ objects, kind, 0, 0, depth ? stack[depth - 1] : NULL };
    return objects = made;
}

/* ---- what tests ask and set ---- */

/* every function of cuda.h that is not here calls this */
EXPORT int testcuda_missing(const char *name) {
    LOCKED;
    called = name;
    return report(CUDA_ERROR_NOT_SUPPORTED, "is not in this driver");
}
/* A new machine. unified: a Jetson. bytes: of device memory. capability: 87 for 8.7. */
EXPORT void testcuda_start(long is_unified, long bytes, long compute_capability) {
    LOCKED;
    for (object *o = objects; o; o = o->next) {
        if (!o->old) free_work(o);
        o->dead = o->old = 1;
    }
    for (call *c = calls; c; c = c->next) c->count = c->error = 0;
    unified = is_unified, most_bytes = bytes, capability = compute_capability;
    sticky = CUDA_SUCCESS, primary = NULL, initialised = depth = *reports = 0;
    start_streams();
}
/* What was wrong since the last time somebody asked, a line each. */
EXPORT void testcuda_reports(char *out, size_t size) {
    LOCKED;
    snprintf(out, size, "%s", reports);
    *reports = 0;
}
/* A function returns this error from now on; 0: no longer. */
EXPORT void testcuda_fail(const char *name, int error) { LOCKED; find_call(name)->error = error; }
EXPORT long testcuda_calls(const char *name) { LOCKED; return find_call(name)->count; }
/* How many there are: "streams", "devices" (blocks of memory) and so on by kind, or one of the three below. */
EXPORT long testcuda_live(const char *what) {
    LOCKED;
    long live = 0;
    for (object *o = objects; o; o = o->next) {
        if (o->dead || (o->kind == STREAM && !o->context)) continue;    /* the default stream */
        live += !strncmp(what, kind_names[o->kind], strlen(kind_names[o->kind]));
        if (o->kind == EVENT && !strcmp(what, "sleeping events")) live += !!(((CUevent)o)->flags & CU_EVENT_BLOCKING_SYNC);
        if (o->kind == STREAM && !strcmp(what, "non-blocking streams")) live += !((CUstream)o)->blocking;
        if (o->kind == CONTEXT && !strcmp(what, "retained")) live += ((CUcontext)o)->references;
    }
    return live;
}
/* this thread's stack of contexts, from the bottom; NULL behind its end */
EXPORT CUcontext testcuda_stack(int index) { return index < depth ? stack[index] : NULL; }

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
