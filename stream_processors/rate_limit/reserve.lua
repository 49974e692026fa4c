-- Reserve one request and some tokens for a turn, in all buckets or in none.
-- KEYS: the turn's reservation, the user's buckets, the tenant's buckets.
-- ARGV: tokens, user requests limit, user tokens limit, tenant requests limit, tenant tokens limit (0: none),
--       milliseconds to remember a grant, milliseconds to remember a refusal.
-- Answer: "scope,retry_ms,limit,remaining,reset_ms,limit,remaining,reset_ms", requests before tokens;
--         scope 0 granted, 1 refused by requests, 2 refused by tokens. The same turn gets the same answer again.
local remembered = redis.call('HGET', KEYS[1], 'answer')
if remembered then
  return remembered
end

local now_us = server_now_us()
local tokens = tonumber(ARGV[1])
local user = read_subject(KEYS[2], tonumber(ARGV[2]), tonumber(ARGV[3]), now_us)
local tenant = read_subject(KEYS[3], tonumber(ARGV[4]), tonumber(ARGV[5]), now_us)

-- Microseconds until the cost fits; 0 when it fits now.
local function wait_us(bucket, cost)
  local excess = bucket.used + cost - bucket.limit
  if bucket.limit == 0 or excess <= ROUNDING then
    return 0
  end
  return excess * PERIOD_US / bucket.limit
end

local function remaining(bucket)
  return math.max(0, math.floor(bucket.limit - bucket.used + ROUNDING))
end

-- The account sees the bucket that leaves it less.
local function tighter(of_user, of_tenant)
  if of_tenant.limit > 0 and remaining(of_tenant) < remaining(of_user) then
    return of_tenant
  end
  return of_user
end

local requests_wait_us = math.max(wait_us(user.requests, 1), wait_us(tenant.requests, 1))
local tokens_wait_us = math.max(wait_us(user.tokens, tokens), wait_us(tenant.tokens, tokens))
local scope = 0
if requests_wait_us > 0 then
  scope = 1
elseif tokens_wait_us > 0 then
  scope = 2
end

if scope == 0 then
  for _, subject in ipairs({user, tenant}) do
    add(subject.requests, 1)
    add(subject.tokens, tokens)
    write_subject(subject, now_us)
  end
end

local requests_bucket = tighter(user.requests, tenant.requests)
local tokens_bucket = tighter(user.tokens, tenant.tokens)
local answer = string.format('%d,%d,%d,%d,%d,%d,%d,%d',
  scope, math.ceil(math.max(requests_wait_us, tokens_wait_us) / 1000),
  requests_bucket.limit, remaining(requests_bucket), math.ceil(us_until_empty(requests_bucket) / 1000),
  tokens_bucket.limit, remaining(tokens_bucket), math.ceil(us_until_empty(tokens_bucket) / 1000))

if scope == 0 then
  redis.call('HSET', KEYS[1], 'answer', answer, 'tokens', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
else
  redis.call('HSET', KEYS[1], 'answer', answer)
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
end
return answer
