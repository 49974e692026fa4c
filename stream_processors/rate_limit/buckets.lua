-- Leaky buckets, put before both scripts. A subject (user, tenant or key) is a hash with a field per quota, such as
-- "tokens/day": units used (fractions count) and the server's microseconds at which that was so. What is used leaks
-- away evenly: `limit` units in one period.
-- Usage may exceed its reservation (a long history); beyond this many times the limit the excess is forgiven.
local USED_LIMITS_MAX = 2
-- Sums of fractions miss whole numbers by less than this many units.
local ROUNDING = 1e-6
-- Kept a moment longer than needed: an expired bucket must be an empty one.
local SPARE_MS = 1000
local WINDOW_PARTS = 4

local function server_now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- A server clock that was set back only stops the leak for a while.
local function elapsed_us(since_us, now_us)
  return math.max(0, now_us - since_us)
end

-- The `quotas`, a JSON array with four parts of each: number of the subject's key, field, limit, period in
-- microseconds; with what is used of them now.
local function read_windows(quotas, now_us)
  local windows = {}
  local parts = cjson.decode(quotas)
  for place = 1, #parts, WINDOW_PARTS do
    local window = {
      subject = tonumber(parts[place]),
      field = parts[place + 1],
      limit = tonumber(parts[place + 2]),
      period_us = tonumber(parts[place + 3]),
      used = 0,
    }
    window.of_requests = string.sub(window.field, 1, 8) == 'requests'
    local stored = redis.call('HGET', KEYS[window.subject], window.field)
    if stored then
      local used, since_us = string.match(stored, '^(%S+) (%S+)$')
      local leaked = elapsed_us(tonumber(since_us), now_us) * window.limit / window.period_us
      -- The limit may have been a higher one when that was used.
      window.used = math.max(0, math.min(tonumber(used), USED_LIMITS_MAX * window.limit) - leaked)
    end
    windows[#windows + 1] = window
  end
  return windows
end

local function add(window, units)
  window.used = math.max(0, math.min(window.used + units, USED_LIMITS_MAX * window.limit))
end

-- Replace what a reservation took at `since_us` by what was used. Of what it took too much, that share comes back
-- which cannot have leaked away since.
local function correct(window, took, used, since_us, now_us)
  local units = used - took
  if units < 0 then
    units = units * math.max(0, 1 - elapsed_us(since_us, now_us) / window.period_us)
  end
  add(window, units)
end

local function ms_until_empty(window)
  return math.ceil(window.used * window.period_us / window.limit / 1000)
end

local function write_windows(windows, now_us)
  for _, window in ipairs(windows) do
    local key = KEYS[window.subject]
    if window.used == 0 then
      redis.call('HDEL', key, window.field)
    else
      redis.call('HSET', key, window.field, string.format('%.17g %.0f', window.used, now_us))
      redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), ms_until_empty(window) + SPARE_MS))
    end
  end
end

-- "subject,field,limit,used,reset_ms" for each, separated by semicolons.
local function told(windows)
  local texts = {}
  for place, window in ipairs(windows) do
    texts[place] = string.format('%d,%s,%d,%d,%d', window.subject, window.field, window.limit,
      math.max(0, math.ceil(window.used - ROUNDING)), ms_until_empty(window))
  end
  return table.concat(texts, ';')
end

-- What a running turn holds: tokens, the microseconds since when, and the id of its key.
local function held_by(turn)
  local held = redis.call('HGET', KEYS[6], turn)
  if not held then
    return nil
  end
  local tokens, since_us, key_id = string.match(held, '^(%S+) (%S+) (.*)$')
  return {tokens = tonumber(tokens), since_us = tonumber(since_us), key_id = key_id}
end

local function let_go(turn)
  redis.call('ZREM', KEYS[5], turn)
  redis.call('HDEL', KEYS[6], turn)
end
