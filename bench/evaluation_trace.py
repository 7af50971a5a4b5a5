"""Where the time of a forward pass goes, from a trace (AVEC_TRACE) of one run of openpose."""

PARTS = ("encoding", "wire up", "waiting", "GPU", "wire down")


def merged(spans):
    """The union of spans, in order."""
    result = []
    for begin, end in sorted(spans):
        if result and begin <= result[-1][1]:
            result[-1][1] = max(result[-1][1], end)
        else:
            result.append([begin, end])
    return result


def covered(spans, begin, end):
    """How much of begin..end the merged spans cover."""
    return sum(max(0, min(stop, end) - max(start, begin)) for start, stop in spans)


def within(spans, begin, end):
    """What of the merged spans lies in begin..end."""
    return [[max(start, begin), min(stop, end)] for start, stop in spans if start < end and stop > begin]


def without(spans, holes):
    """The spans less what the holes cover; both merged."""
    result = []
    for begin, end in spans:
        for start, stop in holes:
            if stop <= begin or start >= end:
                continue
            if start > begin:
                result.append([begin, start])
            begin = max(begin, stop)
        if begin < end:
            result.append([begin, end])
    return result


def slices(events, process, thread=None):
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    return [event for event in events if event["ph"] == "X" and names.get(event["pid"]) == process
            and (thread is None or event["tid"] == thread)]


def span(event):
    return [event["ts"], event["ts"] + event["dur"]]


def where_time_goes(trace, passes):
    """Milliseconds of each part of the average of the last `passes` forward passes that were timed.

    Every moment of a pass counts once: as "GPU" while the device works at anything; else as "encoding"
    while the client's thread is in a call other than the two copies; else as "wire up" before the
    device's first kernel, "wire down" after its last, "waiting" between. (Copies come in pieces, as the
    wire brings them: they begin neither.)
    """
    events = trace["traceEvents"]
    calls = sorted(slices(events, "program"), key=lambda event: event["ts"])
    copies = [event for event in calls if event["name"] == "cudaMemcpy"]
    # In pairs, picture in and result out, the last of the process.
    copies = copies[-2 * passes:]
    device = merged(span(event) for event in slices(events, "device"))
    kernels = merged(span(event) for event in slices(events, "device") if not event["name"].startswith("Copy"))
    total = dict.fromkeys(PARTS, 0.0)
    encoding_all, traced = 0.0, 0
    for first, last in zip(copies[0::2], copies[1::2]):
        begin, end = span(first)[0], span(last)[1]
        work, computing = within(device, begin, end), within(kernels, begin, end)
        if not computing:
            continue
        inside = [span(event) for event in calls if begin <= event["ts"] < end and event is not first and event is not last]
        encoding = merged(inside)
        encoding_all += covered(encoding, begin, end)
        idle = without(encoding, work)
        work_begin, work_end = computing[0][0], computing[-1][1]
        gpu, encoded = covered(work, begin, end), covered(idle, begin, end)
        up = work_begin - begin - covered(idle, begin, work_begin) - covered(work, begin, work_begin)
        down = end - work_end - covered(idle, work_end, end) - covered(work, work_end, end)
        parts = {"encoding": encoded, "wire up": up, "GPU": gpu, "wire down": down,
                 "waiting": (end - begin) - gpu - encoded - up - down}
        for name, value in parts.items():
            total[name] += value
        traced += 1
    if traced == 0:
        raise ValueError("the trace shows no work of the device within a forward pass")
    return {"passes": traced, "parts_ms": {name: value / traced / 1000 for name, value in total.items()},
            "encoding_ms": encoding_all / traced / 1000}
