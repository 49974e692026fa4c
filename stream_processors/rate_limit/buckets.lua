-- Leaky buckets, put before both scripts. A bucket is a hash: units used of each kind (fractions count) and the
-- server's microseconds at which that was so. What is used leaks away evenly: `limit` units in PERIOD_US.
local PERIOD_US = 60 * 1000 * 1000
-- Usage may exceed its reservation (a long history); beyond this many times the limit the excess is forgiven.
local USED_LIMITS_MAX = 2
-- Sums of fractions miss whole numbers by less than this many units.
local ROUNDING = 1e-6
-- Kept a moment longer than needed: an expired bucket must be an empty one.
local SPARE_MS = 1000

local function server_now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function leaked(used, since_us, now_us, limit)
  -- A server clock that was set back only stops the leak for a while.
  local gone = math.max(0, now_us - since_us) * limit / PERIOD_US
  return math.max(0, used - gone)
end

-- What is used of a subject's buckets now. A limit of 0 means that the subject has none.
local function read_subject(key, requests_limit, tokens_limit, now_us)
  local subject = {
    key = key,
    requests = {limit = requests_limit, used = 0},
    tokens = {limit = tokens_limit, used = 0},
  }
  local stored = redis.call('HMGET', key, 'at', 'requests', 'tokens')
  if stored[1] then
    local since_us = tonumber(stored[1])
    subject.requests.used = leaked(tonumber(stored[2]), since_us, now_us, requests_limit)
    subject.tokens.used = leaked(tonumber(stored[3]), since_us, now_us, tokens_limit)
  end
  return subject
end

local function add(bucket, units)
  bucket.used = math.max(0, math.min(bucket.used + units, USED_LIMITS_MAX * bucket.limit))
end

local function us_until_empty(bucket)
  if bucket.limit == 0 then
    return 0
  end
  return bucket.used * PERIOD_US / bucket.limit
end

local function write_subject(subject, now_us)
  local empty_us = math.max(us_until_empty(subject.requests), us_until_empty(subject.tokens))
  if empty_us == 0 then
    redis.call('DEL', subject.key)
    return
  end
  redis.call('HSET', subject.key,
    'at', string.format('%.0f', now_us),
    'requests', string.format('%.17g', subject.requests.used),
    'tokens', string.format('%.17g', subject.tokens.used))
  redis.call('PEXPIRE', subject.key, math.ceil(empty_us / 1000) + SPARE_MS)
end
