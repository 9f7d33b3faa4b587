// A small company on Leadlane, for screenshots.js: its people, its rules, and its leads of the last days. The same at every
// run but for the times.
'use strict';

const PEOPLE = [
  { name: 'Priya Nair', role: 'admin', levels: [] },
  { name: 'Ana Ruiz', role: 'editor', levels: [{ level: 'product', id: '12' }] },
  { name: 'Marcus Oyelaran', role: 'editor', levels: [] },
  { name: 'Tom Becker', role: 'viewer', levels: [] },
].map((person) => ({ ...person, secret: `desk-${person.name.split(' ')[0].toLowerCase()}` }));

const slack = (token, channel, text, more = {}) => ({ type: 'slack_message', token: { secret: token }, to: { channel }, text, ...more });
const product = (id) => ({ level: 'product', id });
const campaign = (id) => ({ level: 'campaign', id });
const publisher = (id) => ({ level: 'publisher', id });

const BIG = [
  '*{{$.buyer.name}}* bought lead <https://crm.example.com/leads/{{$.lead_id}}|{{$.lead_id}}> for *{{$.price | money}}*',
  '{{$.consumer.first_name}} in {{$.consumer.city}}, {{$.consumer.state}}, drives a {{$.fields.vehicle_year}} model',
  'From {{$.publisher.name}}, source {{$.source.name}}', '<@U0LENA> please call',
].join('\n');

/** The rules, each with who writes it. */
const RULES = {
  'lead-profile': ['Marcus Oyelaran', {
    name: 'Sold leads become profiles', trigger: 'lms.lead_sold', scope: product('*'),
    action: { type: 'clevertap_profile', account: 'acme', identity: '{{$.consumer.email}}', properties: { Name: '{{$.consumer.first_name}} {{$.consumer.last_name}}', State: '{{$.consumer.state}}', 'Last sold': '{{$.occurred_at | date}}' } },
  }],
  'rejected-leads': ['Ana Ruiz', {
    name: 'Rejected leads to the alerts channel', trigger: 'lms.lead_rejected', scope: product('12'),
    action: { type: 'slack_webhook', url: { secret: 'alerts-webhook' }, text: 'Lead {{$.lead_id}} was rejected: {{$.reason | default: "no reason given"}}' },
  }],
  'big-auto-sales': ['Ana Ruiz', {
    name: 'Big auto sales to the sales channel', trigger: 'lms.lead_sold', scope: product('12'),
    filters: { publisher: ['3401', '3402'], price: { gte: 25 }, where: [{ path: '$.consumer.state', in: ['TX', 'FL'] }, { path: '$.fields.vehicle_year', gte: 2010 }] },
    action: slack('sales-bot', 'C0SALES', BIG),
  }],
  'revenue-event': ['Marcus Oyelaran', {
    name: 'Reported revenue as Charged', trigger: 'lms.revenue_ping_back', scope: product('12'),
    action: { type: 'clevertap_event', account: 'acme', identity: '{{$.consumer.email}}', event_name: 'Charged', properties: { Amount: '{{$.revenue}}', Lead: '{{$.lead_id}}' } },
  }],
  'buyer-answered': ['Priya Nair', {
    name: 'Answered calls to the call desk', trigger: 'call_logic.buyer_response', scope: campaign('*'),
    filters: { where: [{ path: '$.call.answered', eq: true }] },
    action: { type: 'slack_message', token: { secret: 'calls-bot' }, to: { member: 'U0TOM' }, text: '{{$.buyer.name}} took the call of {{$.call.caller_number}} after {{$.call.billable_seconds}} s' },
  }],
  'campaign-rejections': ['Marcus Oyelaran', {
    name: 'Rejections by campaigns', trigger: 'lms.campaign_rejected', scope: campaign('*'),
    action: slack('sales-bot', 'C0CAMPS', '{{$.buyer.name}} rejected lead {{$.lead_id}} of {{$.product.name}}'),
  }],
  'payout-over-40': ['Priya Nair', {
    name: 'Publisher payout over $40', trigger: 'lms.publisher_earning_received', scope: publisher('3401'), filters: { price: { gt: 40 } },
    action: slack('sales-bot', 'C0BRIGHT', 'Bright & Co <Traffic> earned {{$.payout | money}} with lead {{$.lead_id}}'),
  }],
  'hw-over-60': ['Priya Nair', {
    name: 'Home warranty over $60', trigger: 'lms.lead_sold', scope: product('14'), filters: { price: { gt: 60 } },
    action: slack('sales-bot', 'C0WARRANTY', 'Home warranty sold to {{$.buyer.name}} for {{$.price | money}}'),
  }],
  'texas-desk': ['Marcus Oyelaran', {
    name: 'Texas leads to the Texas desk', trigger: 'lms.lead_sold', scope: product('*'), filters: { where: [{ path: '$.consumer.state', eq: 'TX' }] },
    action: slack('sales-bot', 'C0TEXAS', '{{$.consumer.first_name}} of {{$.consumer.city}}: {{$.product.name}} for {{$.price | money}}'),
  }],
  'long-cheap-calls': ['Ana Ruiz', {
    name: 'Auto sales below $15', status: 'shadow', trigger: 'lms.lead_sold', scope: product('12'), filters: { price: { lt: 15 } },
    action: slack('sales-bot', 'C0SALES', 'Lead {{$.lead_id}} went for {{$.price | money}} alone'),
  }],
  'sourced-leads': ['Marcus Oyelaran', {
    name: 'Sourced leads to marketing', trigger: 'lms.lead_sold', scope: product('20'),
    action: slack('sales-bot', 'C0MARKET', 'Lead {{$.lead_id}} came from {{$.source.name}}', { on_missing: 'fail' }),
  }],
  'auto-over-200': ['Ana Ruiz', {
    name: 'Sold auto leads over $200, by hand', status: 'paused', trigger: 'lms.lead_sold', scope: product('12'), filters: { price: { gt: 200 } },
    action: { type: 'slack_message', token: { secret: 'sales-bot' }, to: { member: 'U0LENA' }, text: 'Lead {{$.lead_id}} sold for {{$.price | money}}' },
  }],
  'tx-harbor-mutual': ['Ana Ruiz', {
    name: 'Texas leads for Harbor Mutual', trigger: 'lms.campaign_sold', scope: product('12'), filters: { buyer: ['219'] },
    action: slack('sales-bot', 'C0HARBOR', 'Lead {{$.lead_id}} sold to {{$.buyer.name}}'),
  }],
  'nps-low': ['Priya Nair', {
    name: 'NPS below 7 to customer care', trigger: 'survey.answered', scope: { level: 'inlet', id: 'survey' }, filters: { where: [{ path: '$.score', lt: 7 }] },
    action: slack('sales-bot', 'C0CARE', 'Score {{$.score}}: {{$.comment | truncate: 200}}'),
  }],
};

const CONSUMERS = [
  ['Ana', 'Diaz', 'Austin', 'TX'], ['Ben', 'Okafor', 'Miami', 'FL'], ['Carla', 'Rossi', 'Denver', 'CO'], ['Dmitri', 'Ivanov', 'Tampa', 'FL'],
  ['Eve', "O'Brien", 'Boston', 'MA'], ['Farid', 'Haddad', 'Houston', 'TX'], ['Grace', 'Liu', 'Seattle', 'WA'], ['Hugo', 'Meyer', 'Dallas', 'TX'],
];
const PRODUCTS = [['12', 'Auto Insurance'], ['12', 'Auto Insurance'], ['14', 'Home Warranty'], ['20', 'Payday']];
const BUYERS = [['210', 'SafeDrive'], ['214', 'Harbor & Sons'], ['230', 'QuickCover']];
const PUBLISHERS = [['3401', 'Bright & Co <Traffic>'], ['3402', 'Clearpath Media'], ['3409', 'LeadLoop']];
const REASONS = ['No campaign accepted', 'Duplicate within 30 days', 'Outside of business hours'];
const TRIGGERS = [
  ...Array(4).fill('lms.lead_sold'), 'lms.lead_rejected', 'lms.lead_rejected', 'lms.campaign_rejected', 'lms.publisher_earning_received',
  'call_logic.buyer_response', 'lms.revenue_ping_back',
];

/** A stream of leads: `next(occurredAt)` gives the next event, `next.of(trigger, more, occurredAt)` one that is asked for. */
function leads() {
  // A small generator of numbers that look like chance (Park and Miller's).
  let seed = 7;
  const random = (below) => { seed = (seed * 48271) % 2147483647; return seed % below; };
  const pick = (list) => list[random(list.length)];
  let number = 84512000;
  const of = (trigger, more, occurredAt) => {
    number += 1;
    const [id, name] = pick(PRODUCTS);
    const [first, last, city, state] = pick(CONSUMERS);
    const [buyer, buyerName] = pick(BUYERS);
    const [from, fromName] = pick(PUBLISHERS);
    const cents = 900 + random(7600);
    const sold = trigger !== 'lms.lead_rejected';
    const money = (amount) => (amount / 100).toFixed(2);
    return {
      event_id: `${trigger}-${number}`, trigger, occurred_at: occurredAt, lead_id: String(number), is_test: false, method: 'POST',
      product: { id, name }, publisher: { id: from, name: fromName }, campaign: { id: `c-${buyer}`, name: `${buyerName} ${state}` },
      ...(id !== '20' || number % 9 ? { source: { id: '77', name: 'Spring search ads' } } : {}),
      ...(sold ? { buyer: { id: buyer, name: buyerName }, price: money(cents), payout: money(cents * 0.6), revenue: money(cents), currency: 'USD' } : { reason: pick(REASONS) }),
      consumer: { first_name: first, last_name: last, city, state, phone: `+1512555${1000 + (number % 9000)}`, email: `${first}.${last}@example.com`.toLowerCase().replace("'", '') },
      fields: { vehicle_year: 2004 + random(20) },
      ...(trigger.startsWith('call_logic') ? { call: { call_id: `call-${number}`, caller_number: '+15125550123', answered: random(4) > 0, billable_seconds: 15 + random(400) } } : {}),
      ...more,
    };
  };
  const next = (occurredAt) => of(pick(TRIGGERS), {}, occurredAt);
  return Object.assign(next, { of });
}

module.exports = { PEOPLE, RULES, leads };
