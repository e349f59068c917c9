-- For wrk: photos in turns as multipart forms, and a line in a log for each answer: its status, and when it was asked
-- for and answered, in seconds. wrk -t1 -s bench/post.lua URL -- LOG RATE BATCH PHOTO ...
-- RATE: requests that begin in a second, whatever the answers take (0: each connection asks as soon as it has its
-- answer); BATCH: photos in a request. When an answer was asked for is known where the server repeats X-Request-Id.

local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds, nanoseconds; } moment; int clock_gettime(int clock, moment *found);")
local moment = ffi.new("moment")
local MONOTONIC = 1
local BOUNDARY = "a8b6c0d2e4f5a7c9"

local log, rate, forms
local count, started = 0, {}
local due

local function now()
  ffi.C.clock_gettime(MONOTONIC, moment)
  return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local data = file:read("*a")
  file:close()
  return data
end

local function part(number, data)
  return "--" .. BOUNDARY .. "\r\nContent-Disposition: form-data; name=\"image\"; filename=\"" .. number
    .. ".jpg\"\r\nContent-Type: image/jpeg\r\n\r\n" .. data .. "\r\n"
end

local function form(photos, first, batch)
  local parts = {}
  for offset = 0, batch - 1 do
    parts[#parts + 1] = part(offset + 1, photos[(first + offset) % #photos + 1])
  end
  local body = table.concat(parts) .. "--" .. BOUNDARY .. "--\r\n"
  return "Content-Type: multipart/form-data; boundary=" .. BOUNDARY .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

function init(args)
  log = assert(io.open(args[1], "w"))
  rate = tonumber(args[2])
  local photos = {}
  for index = 4, #args do
    photos[#photos + 1] = read(args[index])
  end
  forms = {}
  for first = 0, #photos - 1 do
    forms[#forms + 1] = form(photos, first, tonumber(args[3]))
  end
  if rate == 0 then
    delay = nil
  end
end

-- Called for each connection before it asks: so many milliseconds later. Moments are given out in turns.
function delay()
  local time = now()
  due = math.max((due or time) + 1 / rate, time - 1)
  return math.max(0, math.floor(1000 * (due - time) + 0.5))
end

function request()
  count = count + 1
  started[tostring(count)] = now()
  return "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\nX-Request-Id: " .. count .. "\r\n"
    .. forms[count % #forms + 1]
end

function response(status, headers)
  local id = headers["x-request-id"] or headers["X-Request-Id"]
  log:write(status, " ", id and started[id] or 0, " ", now(), "\n")
  if id then
    started[id] = nil
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "{\"p50_ms\": %.3f, \"p95_ms\": %.3f, \"p99_ms\": %.3f, \"requests\": %d, \"seconds\": %.6f, \"cut\": %d}\n",
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000,
    summary.requests, summary.duration / 1e6, errors.connect + errors.read + errors.write + errors.timeout))
end
